//! `cargo krazy kernel build`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::board::{BOARDS, Board};
use crate::cli::build_args::board_parser;
use crate::failure::Result;
use crate::kernel::build::{BuildRequest, Compiler, DEFAULT_RELEASE, KERNEL_ORG, Release, Source};
use crate::ops::build_kernel::build_kernel;
use crate::shell::Shell;

/// Builds a kernel from upstream source, with everything the board needs built in
///
/// The result is a bundle that `kernel = { path = "…" }` in [package.metadata.krazy] takes. The kernel's options come
/// from config fragments that are part of cargo krazy; those of `--config` are added last and take precedence. An
/// option that is unknown or does not survive `olddefconfig` is an error.
///
/// The source and the compiled objects stay in the cache, so that an interrupted build continues where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy kernel build                                 the newest longterm release of kernel.org
  cargo krazy kernel build --version 6.12.48
  cargo krazy kernel build --source /usr/src/linux-source-6.12.tar.xz
  cargo krazy kernel build --config my.config -o kernel/   options of your own; a directory as the result")]
pub(super) struct KernelBuildArgs {
    /// The release of kernel.org: `6.12.48`, or `6.12.x` for the newest of a series
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_RELEASE, help_heading = "Source")]
    #[arg(conflicts_with = "source")]
    version: Release,
    /// A kernel's tarball or unpacked tree on this machine, in place of a release
    #[arg(long, value_name = "TARBALL|DIR", help_heading = "Source")]
    source: Option<PathBuf>,
    /// The expected SHA-256 of the tarball
    #[arg(long, value_name = "HEX", requires = "source", help_heading = "Source")]
    sha256: Option<String>,
    /// A mirror of kernel.org's /pub/linux/kernel; downloads are verified with kernel.org's key
    #[arg(long, value_name = "URL", default_value = KERNEL_ORG, help_heading = "Source")]
    mirror: String,
    /// Do not use the network
    #[arg(long, help_heading = "Source")]
    offline: bool,
    /// The board the kernel is for
    #[arg(long, visible_alias = "target", value_name = "BOARD", default_value = BOARDS[0].name)]
    #[arg(value_parser = board_parser(), help_heading = "Build")]
    board: &'static Board,
    /// A config fragment of your own, with lines such as `CONFIG_WIREGUARD=y`; may be given several times
    #[arg(long, value_name = "FRAGMENT", help_heading = "Build")]
    config: Vec<PathBuf>,
    /// The compiler [default: gcc if it is complete, else clang]
    #[arg(long, value_name = "COMPILER", value_enum, help_heading = "Build")]
    compiler: Option<Compiler>,
    /// Parallel compiler processes [default: one for each processor]
    #[arg(short, long, value_name = "N", help_heading = "Build")]
    jobs: Option<NonZeroUsize>,
    /// The bundle to write: a file ending in .tar.zst, or a directory [default: linux-VERSION-BOARD.tar.zst]
    #[arg(short, long, value_name = "PATH", help_heading = "Build")]
    output: Option<PathBuf>,
}

impl KernelBuildArgs {
    fn resolve(self) -> BuildRequest {
        let source = match self.source {
            Some(path) => Source::Local { path, sha256: self.sha256 },
            None => Source::Release { release: self.version, mirror: self.mirror, offline: self.offline },
        };
        BuildRequest {
            source,
            board: self.board,
            fragments: self.config,
            compiler: self.compiler,
            jobs: self
                .jobs
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            output: self.output,
        }
    }

    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        build_kernel(&self.resolve(), shell)
    }
}
