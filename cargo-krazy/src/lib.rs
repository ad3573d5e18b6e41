//! `cargo krazy`: from a crate with `[package.metadata.krazy]` to an appliance, and from there to its updates.
//!
//! Data flows one way, and every stage takes a value and returns a value:
//!
//! ```text
//! Cargo.toml metadata → Appliance → Plan → cargo install --root → root tree → partitions → image
//! ```

mod board;
mod bundle;
mod cache;
mod cli;
mod config;
mod device;
mod download;
pub mod failure;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod image;
mod install;
pub mod interrupt;
mod kernel;
mod lock_file;
mod ops;
mod output;
mod plan;
mod provision;
mod qemu;
mod shell;
mod table;
mod toolchain;
mod user_directories;
mod vendored;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::Cli;
use crate::failure::Exit;

/// Runs the program with the command line `args`, the program's name included.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::parse_args(args) {
        Ok(cli) => cli,
        // Help and version are errors to clap, with exit code 0.
        Err(error) => {
            let printed = error.print().is_ok();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false if printed => ExitCode::SUCCESS,
                false => Exit::Failed.into(),
            };
        }
    };
    let shell = cli.shell();
    let result = interrupt::install().and_then(|()| cli.exec(shell));
    // If a step failed because its child process was interrupted with us, the interrupt is the cause.
    match result.map_err(|error| interrupt::check().err().unwrap_or(error)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell.error(&error);
            error.exit().into()
        }
    }
}
