//! `cargo krazy`: from a crate with `[package.metadata.krazy]` to an appliance, and from there to its updates.
//!
//! Data flows one way, and every stage takes a value and returns a value:
//!
//! ```text
//! Cargo.toml metadata → Appliance → Plan → cargo install --root → root tree → partitions → image
//! ```

pub mod board;
pub mod config;
pub mod failure;
pub mod output;
pub mod provision;
pub mod shell;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with the command line `args`, the program's name included.
pub fn run(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
