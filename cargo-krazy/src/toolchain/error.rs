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
    /// The compiler is too old for our own programs.
    #[error("krazy-init needs Rust {needed}, and {} Rust {found}", match pin {
        Some(file) => format!("{} asks for", file.display()),
        None => "this is".to_owned(),
    })]
    OldRust {
        /// The release that our programs need, such as `1.95`.
        needed: &'static str,
        /// The release of the compiler.
        found: String,
        /// The file that chooses the compiler.
        pin: Option<PathBuf>,
    },
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
    /// There is no C compiler, and it must not be downloaded.
    #[error("a crate has C code, and zig {version}, which compiles it, is not downloaded yet")]
    NoCCompiler {
        /// The pinned release.
        version: String,
    },
    /// A downloaded wheel is no ZIP archive, or cannot be unpacked.
    #[error("failed to unpack {}: {error}", wheel.display())]
    Wheel {
        /// The file.
        wheel: PathBuf,
        /// The reason.
        error: zip::result::ZipError,
    },
    /// A downloaded wheel is larger than any zig.
    #[error("{} holds more than {limit} bytes", wheel.display())]
    LargeWheel {
        /// The file.
        wheel: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// Zig cannot compile its C++ library.
    #[error("failed to compile the C++ library: {why}")]
    CxxLibrary {
        /// The message of zig.
        why: String,
    },
    /// The user's cargo configuration is wrong.
    #[error("failed to read cargo's configuration for {}: {error}", directory.display())]
    Configuration {
        /// The directory that the configuration is for.
        directory: PathBuf,
        /// The reason.
        error: cargo_config2::Error,
    },
    /// The user's cargo configuration includes other files, and cargo does not say what it is.
    #[error("failed to read cargo's configuration for {}: {why}", directory.display())]
    Included {
        /// The directory that the configuration is for.
        directory: PathBuf,
        /// The reason.
        why: String,
    },
}

impl Explain for ToolchainError {
    fn exit(&self) -> Exit {
        match self {
            ToolchainError::Configuration { .. } | ToolchainError::Included { .. } => Exit::Config,
            ToolchainError::Wheel { .. } | ToolchainError::LargeWheel { .. } => Exit::Fetch,
            ToolchainError::CxxLibrary { .. } => Exit::Build,
            ToolchainError::NoRustc
            | ToolchainError::OldRust { .. }
            | ToolchainError::NoTarget { .. }
            | ToolchainError::NoLinker { .. }
            | ToolchainError::NoCCompiler { .. } => Exit::MissingTool,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ToolchainError::NoRustc => Some("install Rust: https://rustup.rs".to_owned()),
            ToolchainError::OldRust { needed, pin: Some(_), .. } => Some(format!(
                "set its `channel` to {needed} or newer, or use another toolchain for this command: `cargo +stable krazy …`"
            )),
            ToolchainError::OldRust { pin: None, .. } => Some("run `rustup update`".to_owned()),
            ToolchainError::NoTarget { help, .. } => Some(help.clone()),
            ToolchainError::NoLinker { triple, host } => Some(CCompiler::install_help(triple, host)),
            ToolchainError::NoCCompiler { .. } => {
                Some(
                    "run once without `--offline`, install zig (`pip install ziglang`), or bring it with `cargo krazy vendor \
                     DIR` from a machine with the network"
                        .to_owned(),
                )
            }
            ToolchainError::Wheel { .. } => {
                Some("make room on the disk of the cache, and try again".to_owned())
            }
            ToolchainError::LargeWheel { .. }
            | ToolchainError::CxxLibrary { .. }
            | ToolchainError::Configuration { .. }
            | ToolchainError::Included { .. } => None,
        }
    }
}
