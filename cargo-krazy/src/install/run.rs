//! Runs cargo: its progress goes to the user as it comes, its messages come back as values.

use std::io::{BufReader, IsTerminal, Read, Write};
use std::process::{ExitStatus, Stdio};
use std::time::SystemTime;

use anyhow::Context;
use cargo_metadata::Message;
use cargo_util::ProcessBuilder;

use super::error::InstallError;
use crate::failure::Result;
use crate::shell::{Shell, Verbosity};

/// Bytes of standard error that are kept to read a failure's cause from.
const KEPT: usize = 64 * 1024;

/// The result of a finished cargo.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The time of its start.
    pub(crate) began: SystemTime,
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// Artifacts and build scripts, fresh ones too.
    pub(crate) messages: Vec<Message>,
    /// The end of its standard error, without colours.
    pub(crate) stderr: String,
    /// The lines that were held back.
    held: Vec<u8>,
}

impl Outcome {
    /// Passes on the lines that were held back.
    pub(crate) fn show_held(&self) {
        show(&self.held, &mut std::io::stderr());
    }
}

/// The treatment of what cargo says from its first error on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errors {
    /// It is passed on as it comes.
    Show,
    /// It is held back: the build may fail for the lack of something that is about to be supplied.
    Hold,
}

/// Runs `command` in `env`, which is complete.
///
/// # Errors
/// If cargo does not start (`Exit::MissingTool`) or its messages cannot be read.
pub(crate) fn run(
    command: &ProcessBuilder,
    env: &crate::toolchain::Environment,
    errors: Errors,
    shell: Shell,
) -> Result<Outcome> {
    shell.verbose("Running", command.to_string());
    let mut process = command.build_command();
    process.env_clear().envs(env.vars());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    let quiet = shell.verbosity() == Verbosity::Quiet;
    if quiet {
        process.arg("--quiet");
    }
    if std::io::stderr().is_terminal() && !quiet {
        // Cargo sees a pipe; these make it talk as to the terminal behind it. What the user has set, wins.
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        for (name, value) in [
            ("CARGO_TERM_COLOR", if colour { "always" } else { "never" }),
            ("CARGO_TERM_PROGRESS_WHEN", "always"),
            ("CARGO_TERM_PROGRESS_WIDTH", "80"),
        ] {
            if env.var(name).is_none() {
                process.env(name, value);
            }
        }
    }
    let began = SystemTime::now();
    let mut child = process
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| InstallError::NoCargo { program: command.get_program().into(), error })?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let relay = std::thread::spawn(move || relay(stderr, std::io::stderr(), errors));
    let messages = Message::parse_stream(BufReader::new(stdout)).collect::<Result<Vec<_>, _>>();
    let status = child.wait().context("failed to wait for cargo")?;
    let (stderr, held) = relay.join().map_err(|_| anyhow::anyhow!("failed to read what cargo said"))?;
    Ok(Outcome {
        began,
        status,
        messages: messages.context("failed to read cargo's messages")?,
        stderr,
        held,
    })
}

/// Passes on cargo's standard error, line by line and progress bar by progress bar, without the lines about our own
/// directories and lock files. Returns the end of it, without colours, and what was held back.
fn relay(mut from: impl Read, mut to: impl Write, errors: Errors) -> (String, Vec<u8>) {
    let mut kept = Vec::new();
    let mut held = Vec::new();
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // Cargo's end of the pipe is gone; its exit status tells the rest.
            Err(_) => break,
        };
        for &byte in &buffer[..count] {
            line.push(byte);
            if matches!(byte, b'\n' | b'\r') {
                pass(&mut line, &mut kept, &mut to, errors, &mut held);
            }
        }
    }
    pass(&mut line, &mut kept, &mut to, errors, &mut held);
    let start = kept.len().saturating_sub(KEPT);
    (anstream::adapter::strip_str(&String::from_utf8_lossy(&kept[start..])).to_string(), held)
}

/// Passes on `text` of cargo.
pub(super) fn show(text: &[u8], to: &mut impl Write) {
    // With standard error closed, the failure cannot be reported either.
    let _closed = to.write_all(text).and_then(|()| to.flush());
}

fn pass(line: &mut Vec<u8>, kept: &mut Vec<u8>, to: &mut impl Write, errors: Errors, held: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line);
    let text = anstream::adapter::strip_str(&text).to_string();
    let text = text.trim();
    let ours = ["Replacing /", "Replaced package", "Installing /", "Installed package"];
    let ours = ours.iter().any(|start| text.starts_with(start))
        || ["be sure to add `", "--locked was passed", "remove the --locked flag"]
            .iter()
            .any(|part| text.contains(part));
    if errors == Errors::Hold && (!held.is_empty() || text.starts_with("error")) {
        held.extend_from_slice(line);
    } else if !ours {
        show(line, to);
    }
    kept.append(line);
    if kept.len() > 2 * KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_pass_except_those_about_our_directories() {
        let said = "\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m app v0.1.0\n\u{1b}[1m  Installing\u{1b}[0m /x/bin/app\n\
                    \u{1b}[33mwarning\u{1b}[0m: be sure to add `/x/bin` to your PATH\nBuilding 1/2\rlast";
        let mut heard = Vec::new();
        let (kept, held) = relay(said.as_bytes(), &mut heard, Errors::Show);
        assert!(held.is_empty());
        assert_eq!(
            String::from_utf8(heard).unwrap(),
            "\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m app v0.1.0\nBuilding 1/2\rlast"
        );
        assert!(kept.starts_with("   Compiling app v0.1.0\n  Installing /x/bin/app\n"), "{kept}");
    }

    #[test]
    fn only_the_end_is_kept() {
        let said = "x\n".repeat(4 * KEPT);
        assert!(relay(said.as_bytes(), std::io::sink(), Errors::Show).0.len() <= KEPT);
    }

    #[test]
    fn errors_are_held_back_on_request() {
        let mut heard = Vec::new();
        let said = "   Compiling app\n\u{1b}[31merror\u{1b}[0m: no compiler\n   cause\n";
        let (kept, held) = relay(said.as_bytes(), &mut heard, Errors::Hold);
        assert_eq!(heard, b"   Compiling app\n");
        assert_eq!(held, said.as_bytes()[heard.len()..]);
        assert!(kept.ends_with("error: no compiler\n   cause\n"), "{kept}");
    }
}
