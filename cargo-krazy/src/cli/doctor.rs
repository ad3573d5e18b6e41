//! `cargo krazy doctor`.

use std::fmt::Write;

use anyhow::Context;
use serde::Serialize;

use crate::board::{BOARDS, Board};
use crate::cli::build_args::board_parser;
use crate::failure::{Exit, Failure};
use crate::ops::doctor::{Finding, Status, examine};
use crate::shell::{MessageFormat, Shell};
use crate::toolchain::Environment;

/// Reports what this machine has and lacks for each board
///
/// Ends with exit code 0 if everything needed to build is there, for every board or for that of `--target`.
/// Nothing is installed or changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this board [default: every board]
    #[arg(long, value_name = "BOARD", value_parser = board_parser())]
    target: Option<&'static Board>,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    board: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
}

#[derive(Serialize)]
struct Finished {
    reason: &'static str,
    ok: bool,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let env = Environment::current();
        let folder = std::env::current_dir().context("failed to find the working directory")?;
        let mut unbuildable = Vec::new();
        for board in BOARDS.iter().filter(|board| self.target.is_none_or(|target| target == *board)) {
            let findings = examine(&env, board, &folder);
            if findings.iter().any(|finding| finding.status == Status::Missing) {
                unbuildable.push(format!("`{}`", board.name));
            }
            match shell.format() {
                MessageFormat::Human => shell.output(report(board, &findings))?,
                MessageFormat::Json => findings.iter().try_for_each(|finding| {
                    shell.message(&Message { reason: "doctor-finding", board: board.name, finding })
                })?,
            }
        }
        shell.message(&Finished { reason: "doctor-finished", ok: unbuildable.is_empty() })?;
        if unbuildable.is_empty() {
            return Ok(());
        }
        let message = format!("this machine cannot build for {}", unbuildable.join(", "));
        Err(Failure::new(Exit::MissingTool, message).help("see the `help` of what is missing above").into())
    }
}

/// The findings as text, a line each and a second one for help.
fn report(board: &Board, findings: &[Finding]) -> String {
    let mut text = format!("{}: {}\n", board.name, board.description);
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "MISSING",
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "  {status:<8} {:<13} {}", finding.item, finding.found);
        if let Some(help) = &finding.help {
            let _infallible = writeln!(text, "  {:<22} help: {help}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_what_is_missing_and_what_to_do() {
        let finding = Finding {
            item: "linker",
            status: Status::Missing,
            found: "none".to_owned(),
            help: Some("install zig".to_owned()),
        };
        let board = Board::named("x86_64").unwrap();
        assert_eq!(
            report(board, &[finding]),
            format!(
                "x86_64: {}\n  MISSING  linker        none\n                         help: install zig\n",
                board.description
            )
        );
    }
}
