//! The command line: one file a command, with its arguments, its help, and an `exec` that calls one operation of
//! [`ops`](crate::ops).
//!
//! Arguments exist twice: as parsed here, then resolved ([`Shell`], [`Request`](crate::config::Request)), so that
//! nothing below asks whether an option was given.

mod audit;
mod build_args;
mod bundle;
mod certificate;
mod command;
mod data;
mod device_args;
mod discover;
mod doctor;
mod floor;
mod get;
mod image;
mod inspect;
mod kernel;
mod key;
mod logs;
mod order;
mod ps;
mod push;
mod put;
mod run_qemu;
mod schema;
mod service;
mod status;
mod switch;
mod token;
mod update;
mod vendor;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use self::command::Command;
use crate::config;
use crate::failure::{Exit, Result};
use crate::shell::{MessageFormat, Shell, Verbosity};

/// Turns Rust programs into bootable appliances with safe remote updates.
///
/// Add a `[package.metadata.krazy]` table to the Cargo.toml of a crate with a binary, and `cargo krazy image` makes a
/// disk that boots into it.
#[derive(Debug, Parser)]
#[command(
    name = "cargo-krazy",
    bin_name = "cargo krazy",
    version,
    styles = clap_cargo::style::CLAP_STYLING,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    /// The subcommand.
    #[command(subcommand)]
    command: Command,
}

/// Options every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct GlobalArgs {
    /// Print warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print the commands that are run, too
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colours [default: CARGO_TERM_COLOR, else auto]
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<clap::ColorChoice>,
    /// What standard output carries
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    message_format: MessageFormat,
}

impl Cli {
    /// Parses `args`, with the program's name. The `krazy` that cargo puts before a subcommand's arguments is dropped.
    pub(crate) fn parse_args(
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Self, clap::Error> {
        let mut args: Vec<_> = args.into_iter().collect();
        if args.get(1).is_some_and(|arg| arg == "krazy") {
            args.remove(1);
        }
        let command = <Cli as CommandFactory>::command().after_help(exit_codes()).after_long_help(format!(
            "{}\n\nMetadata, in the Cargo.toml of the package; [workspace.metadata.krazy] gives defaults:\n{}",
            exit_codes(),
            config::schema::reference()
        ));
        Cli::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    /// Runs the command.
    pub(crate) fn exec(self, shell: Shell) -> Result<()> {
        self.command.exec(shell)
    }

    /// Returns the shell that the options ask for. Sets the colour choice of the whole program.
    pub(crate) fn shell(&self) -> Shell {
        let choice = self.global.color.unwrap_or_else(|| {
            // cargo's own setting; a word it does not know is cargo's to complain about.
            let setting = std::env::var("CARGO_TERM_COLOR").unwrap_or_default();
            <clap::ColorChoice as clap::ValueEnum>::from_str(&setting, false).unwrap_or_default()
        });
        match choice {
            clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
            clap::ColorChoice::Always => anstream::ColorChoice::Always,
            clap::ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let verbosity = match (self.global.quiet, self.global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Shell::new(verbosity, self.global.message_format)
    }
}

/// The exit codes of [`Exit`], for the help.
fn exit_codes() -> String {
    Exit::ALL.iter().fold(String::from("Exit codes:"), |text, exit| {
        format!("{text}\n  {:>3}  {}", *exit as u8, exit.meaning())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::parse_args(args.iter().map(Into::into))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cargo_and_people_may_call_it() {
        assert!(parse(&["/bin/cargo-krazy", "krazy", "image", "--dry-run"]).is_ok());
        assert!(parse(&["/bin/cargo-krazy", "image", "--dry-run"]).is_ok());
    }

    #[test]
    fn an_unknown_board_lists_the_known_ones() {
        let error = parse(&["cargo-krazy", "image", "--dry-run", "--target", "x86-64"]).unwrap_err();
        assert_eq!(error.exit_code(), Exit::Usage as i32);
        let text = error.to_string();
        assert!(text.contains("invalid value 'x86-64' for '--target <BOARD>'"), "{text}");
        assert!(text.contains("[possible values: x86_64"), "{text}");
        assert!(text.contains("a similar value exists: 'x86_64'"), "{text}");
    }

    #[test]
    fn a_size_must_be_one() {
        let error = parse(&["cargo-krazy", "image", "--dry-run", "--size", "big"]).unwrap_err().to_string();
        assert!(error.contains("`big` is not a size"), "{error}");
    }

    /// Every subcommand that does something, with those that lead to it: `token add`.
    fn commands(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for command in command.get_subcommands() {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                commands(command, &path, found);
            } else {
                found.insert(path.trim_start().to_owned());
            }
        }
    }

    /// The commands in the tables of a page. In `kernel list`, `fetch` the second stands for `kernel fetch`.
    fn documented(page: &str) -> BTreeSet<String> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(page);
        let text = std::fs::read_to_string(page).unwrap();
        let mut found = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("| `cargo krazy ")) {
            let cell = line.split('|').nth(1).unwrap();
            let mut group = String::new();
            for code in cell.split('`').skip(1).step_by(2) {
                let name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
                let code = code.trim_start_matches("cargo krazy ").split(' ');
                let words: Vec<_> = code.take_while(name).collect();
                let path = format!("{group}{}", words.join(" "));
                if let [first, _] = words[..] {
                    group = format!("{first} ");
                }
                found.insert(path);
            }
        }
        found
    }

    #[test]
    fn the_book_lists_every_command_and_the_readme_only_real_ones() {
        let mut real = BTreeSet::new();
        commands(&Cli::command(), "", &mut real);
        assert_eq!(documented("docs/src/commands.md"), real);
        let daily = documented("README.md");
        assert!(daily.len() > 5 && daily.is_subset(&real), "{daily:?}");
    }
}
