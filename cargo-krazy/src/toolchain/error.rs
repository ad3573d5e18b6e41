//! The failures of finding a toolchain, with exit code and help.

use std::path::PathBuf;

use super::c_compiler::CCompiler;
use crate::failure::{Exit, Explain};

/// A toolchain that cannot build for a board.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolchainError {
    /// There is no compiler.
    #[error("failed to find rustc")]
    NoRustc,
    /// There is no standard library for the board, and no way to get one.
    #[error("the Rust target {triple} of board `{board}` is not installed")]
    NoTarget {
        /// The target.
        triple: &'static str,
        /// The board.
        board: &'static str,
        /// The steps to get the target.
        help: String,
    },
    /// There is no linker for the target.
    #[error("nothing can link for {triple}")]
    NoLinker {
        /// The target.
        triple: String,
        /// The target of the compiler itself.
        host: String,
    },
    /// The user's cargo configuration is wrong.
    #[error("failed to read cargo's configuration for {}: {error}", directory.display())]
    Configuration {
        /// The directory that the configuration is for.
        directory: PathBuf,
        /// The reason.
        error: cargo_config2::Error,
    },
}

impl Explain for ToolchainError {
    fn exit(&self) -> Exit {
        match self {
            ToolchainError::Configuration { .. } => Exit::Config,
            _ => Exit::MissingTool,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ToolchainError::NoRustc => Some("install Rust: https://rustup.rs".to_owned()),
            ToolchainError::NoTarget { help, .. } => Some(help.clone()),
            ToolchainError::NoLinker { triple, host } => Some(CCompiler::install_help(triple, host)),
            ToolchainError::Configuration { .. } => None,
        }
    }
}
