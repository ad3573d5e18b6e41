//! `cargo krazy doctor`.

use serde::Serialize;

use crate::board::Board;
use crate::cli::build_args::board_parser;
use crate::failure::Result;
use crate::ops::doctor;
use crate::shell::Shell;

/// Reports the tools that this machine has and lacks for each board
///
/// Ends with exit code 0 if everything needed to build is there, for every board or for that of `--target`.
/// Nothing is installed or changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this board [default: every board]
    #[arg(long, value_name = "BOARD", value_parser = board_parser())]
    target: Option<&'static Board>,
}

#[derive(Serialize)]
struct Finished {
    ok: bool,
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let boards = doctor::examine_machine(self.target)?;
        for board in &boards {
            shell.report("doctor-finding", &board.findings(), board)?;
        }
        let checked = doctor::check(&boards);
        shell.message("doctor-finished", &Finished { ok: checked.is_ok() })?;
        Ok(checked?)
    }
}
