//! Examination of this machine: tools that are there and tools that are missing, for each board.

mod examination;

use std::fmt;

use anyhow::Context;
use serde::Serialize;

use self::examination::{Finding, Status, examine};
use crate::board::{BOARDS, Board};
use crate::failure::{Exit, Explain, Result};
use crate::toolchain::Environment;

/// The findings for a board.
pub(crate) struct BoardFindings {
    board: &'static Board,
    findings: Vec<Finding>,
}

/// A finding with its board.
#[derive(Serialize)]
pub(crate) struct BoardFinding<'a> {
    board: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// A machine that lacks tools.
#[derive(Debug, thiserror::Error)]
#[error("this machine cannot build for {}", boards.join(", "))]
pub(crate) struct CannotBuild {
    boards: Vec<String>,
}

impl Explain for CannotBuild {
    fn exit(&self) -> Exit {
        Exit::MissingTool
    }

    fn help(&self) -> Option<String> {
        Some("see the `help` of what is missing above".to_owned())
    }
}

/// Examines this machine for `target`, or for every board.
pub(crate) fn examine_machine(target: Option<&'static Board>) -> Result<Vec<BoardFindings>> {
    let env = Environment::current();
    let directory = std::env::current_dir().context("failed to find the working directory")?;
    let boards = BOARDS.iter().filter(|board| target.is_none_or(|target| target == *board));
    Ok(boards.map(|board| BoardFindings { board, findings: examine(&env, board, &directory) }).collect())
}

/// Fails if something that one of the boards needs is missing.
pub(crate) fn check(boards: &[BoardFindings]) -> Result<(), CannotBuild> {
    let lacking = boards.iter().filter(|board| board.findings.iter().any(|f| f.status == Status::Missing));
    let boards: Vec<_> = lacking.map(|board| format!("`{}`", board.board.name)).collect();
    if boards.is_empty() { Ok(()) } else { Err(CannotBuild { boards }) }
}

impl BoardFindings {
    /// Returns the findings one by one.
    pub(crate) fn findings(&self) -> Vec<BoardFinding<'_>> {
        let board = self.board.name;
        self.findings.iter().map(|finding| BoardFinding { board, finding }).collect()
    }
}

/// The findings as text, a line each and a second one for help.
impl fmt::Display for BoardFindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.board.name, self.board.description)?;
        for finding in &self.findings {
            let status = match finding.status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Missing => "MISSING",
            };
            writeln!(f, "  {status:<8} {:<13} {}", finding.item, finding.found)?;
            if let Some(help) = &finding.help {
                writeln!(f, "  {:<22} help: {help}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tool_is_reported_with_its_help() {
        let finding = Finding {
            item: "linker",
            status: Status::Missing,
            found: "none".to_owned(),
            help: Some("install zig".to_owned()),
        };
        let board = Board::named("x86_64").unwrap();
        let board = BoardFindings { board, findings: vec![finding] };
        assert_eq!(
            board.to_string(),
            format!(
                "x86_64: {}\n  MISSING  linker        none\n                         help: install zig\n",
                board.board.description
            )
        );
        let error = check(&[board]).unwrap_err();
        assert_eq!(error.to_string(), "this machine cannot build for `x86_64`");
    }
}
