//! The toolchain that makes static binaries for a board on this machine.
//!
//! | standard library | when | linked by |
//! |---|---|---|
//! | compiled, in the sysroot | it is there, or `rustup target add` brings it | the user's linker, else rust-lld |
//! | built from `rust-src` with `-Zbuild-std` | sources and zig are there | `zig cc`, which brings musl's start files and unwinder |
//! | glibc, `+crt-static` | x86_64 on x86_64 only | the host's `cc` |
//!
//! The user's own cargo configuration (`target.TRIPLE.linker`, `rustflags`, `CC_TRIPLE` …) wins everywhere.
//! [`Toolchain::detect`] only looks; [`Toolchain::prepare`] may add a target.

mod c_compiler;
pub(crate) mod diagnosis;
mod environment;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod rustc;
mod rustup;
mod settings;
mod wrapper;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

pub(crate) use c_compiler::{CCompiler, find_zig};
pub(crate) use environment::Environment;
pub(crate) use rustc::Rustc;
pub(crate) use settings::{CargoSettings, Codegen};

use self::error::ToolchainError;
use crate::board::Board;
use crate::failure::Result;
use crate::shell::Shell;

/// The origin of the target's standard library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StdSource {
    /// Compiled, in the sysroot.
    Installed,
    /// `rustup target add` can bring it.
    Rustup {
        /// The rustup executable.
        rustup: PathBuf,
        /// The toolchain to add it to.
        toolchain: String,
    },
    /// Built from the sysroot's sources.
    BuildStd,
    /// The host's own, with glibc linked statically.
    StaticGlibc,
}

/// The linker of the binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Linker {
    /// The user's cargo configuration or flags choose it.
    User,
    /// rustc's default, the host's `cc`.
    Default,
    /// A linker by name or path: rust-lld, or an ld.lld or gcc on `PATH`.
    Program(PathBuf),
    /// The wrapper around `zig cc`.
    Zig,
    /// None is there.
    Missing,
}

/// Everything needed to run cargo for a board.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// The target handed to cargo: the board's, or the host's gnu target for [`StdSource::StaticGlibc`].
    pub(crate) triple: String,
    /// The compiler.
    pub(crate) rustc: Rustc,
    /// The origin of the standard library.
    pub(crate) std: StdSource,
    /// The environment the toolchain was found in, and cargo runs in.
    pub(crate) env: Environment,
    /// The directory whose cargo configuration and `rust-toolchain.toml` count.
    pub(crate) directory: PathBuf,
    board: &'static Board,
    c_compiler: OnceCell<CCompiler>,
}

impl Toolchain {
    /// Detects for the environment of this process, and adds the target if that is what is missing. What is worth
    /// remembering about that is kept in the directory `memory`.
    ///
    /// # Errors
    /// `Exit::MissingTool` with what to install, when there is no way to build for `board`.
    pub(crate) fn ready(
        board: &'static Board,
        directory: &Path,
        memory: &Path,
        shell: Shell,
        offline: bool,
    ) -> Result<Self> {
        Toolchain::detect(Environment::current(), board, directory, offline)?.prepare(memory, shell)
    }

    /// Decides how to build for `board` in the package directory `directory`. Nothing is changed; with `offline`,
    /// adding a target is not considered.
    ///
    /// # Errors
    /// `Exit::MissingTool` with what to install.
    pub(crate) fn detect(
        env: Environment,
        board: &'static Board,
        directory: &Path,
        offline: bool,
    ) -> Result<Self> {
        let rustc = Rustc::query(&env, directory)?;
        let rustup = if offline { None } else { env.find("rustup") };
        let std = match (rustc.rustup_toolchain(), rustup) {
            _ if rustc.has_std(board.triple) => StdSource::Installed,
            (Some(name), Some(rustup)) => StdSource::Rustup { rustup, toolchain: name.to_owned() },
            _ => Self::without_target(&env, &rustc, board)?,
        };
        Ok(Self::with(env, rustc, std, board, directory))
    }

    /// The ways that remain when the target's standard library cannot be had.
    fn without_target(env: &Environment, rustc: &Rustc, board: &Board) -> Result<StdSource, ToolchainError> {
        if rustc.has_sources() && find_zig(env).is_some() {
            return Ok(StdSource::BuildStd);
        }
        let gnu = format!("{}-unknown-linux-gnu", arch_of(board.triple));
        if arch_of(board.triple) == "x86_64" && rustc.host == gnu && rustc.has_std(&gnu) {
            return Ok(StdSource::StaticGlibc);
        }
        let help = Self::target_help(rustc, board);
        Err(ToolchainError::NoTarget { triple: board.triple, board: board.name, help })
    }

    /// Returns the steps to get the target of `board`.
    pub(crate) fn target_help(rustc: &Rustc, board: &Board) -> String {
        let sources = format!(
            "the sources of Rust {} (`rust-src`) and zig (`pip install ziglang`) do as well",
            rustc.release()
        );
        if rustc.rustup_toolchain().is_some() {
            format!("run `rustup target add {}` while the network is up; {sources}", board.triple)
        } else {
            format!(
                "install Rust with https://rustup.rs, or your distribution's package of the target; {sources}"
            )
        }
    }

    fn with(env: Environment, rustc: Rustc, std: StdSource, board: &'static Board, directory: &Path) -> Self {
        let triple = match std {
            StdSource::StaticGlibc => rustc.host.clone(),
            _ => board.triple.to_owned(),
        };
        Toolchain {
            triple,
            rustc,
            std,
            env,
            directory: directory.to_owned(),
            board,
            c_compiler: OnceCell::new(),
        }
    }

    /// Adds the target with rustup where that is the plan; when it fails, takes the next way. The failure is
    /// remembered in the directory `memory`.
    ///
    /// # Errors
    /// `Exit::MissingTool` when no way remains.
    pub(crate) fn prepare(self, memory: &Path, shell: Shell) -> Result<Self> {
        let mut ready = self;
        if let StdSource::Rustup { rustup, toolchain } = &ready.std {
            let Toolchain { env, rustc, triple, directory, board, .. } = &ready;
            let memory = memory.join("rustup-failure");
            let added = rustup::add_target(env, rustup, toolchain, triple, directory, &memory, shell);
            if let Err(refusal) = &added {
                let when = if refusal.remembered { " within the last hour" } else { "" };
                shell.warn(format!("rustup could not add {triple}{when}: {}", refusal.reason));
            }
            let std = match added {
                Ok(()) if rustc.has_std(triple) => StdSource::Installed,
                _ => Self::without_target(env, rustc, board)?,
            };
            ready = Self::with(ready.env, ready.rustc, std, ready.board, &ready.directory);
        }
        match ready.std {
            StdSource::StaticGlibc => {
                shell.warn(format!(
                    "the target {} is not installed: linking glibc statically instead; it lacks NSS, so that \
                     looking up users and host names through libc may fail, and it lacks iconv and locales",
                    ready.board.triple
                ));
                shell.note(Self::target_help(&ready.rustc, ready.board));
            }
            StdSource::BuildStd => {
                shell.verbose("Using", format!("-Zbuild-std for {}", ready.triple));
            }
            StdSource::Installed | StdSource::Rustup { .. } => {}
        }
        Ok(ready)
    }

    /// Returns the toolchain that every machine with tests has, whatever its targets and sources: the host's own standard
    /// library, linked statically.
    #[cfg(test)]
    pub(crate) fn of_host(env: Environment, board: &'static Board, directory: &Path) -> Result<Self> {
        let rustc = Rustc::query(&env, directory)?;
        Ok(Self::with(env, rustc, StdSource::StaticGlibc, board, directory))
    }

    /// The C compiler for the target. Looked up once, and only when something has to be built.
    pub(crate) fn c_compiler(&self) -> &CCompiler {
        self.c_compiler.get_or_init(|| CCompiler::detect(&self.env, &self.triple, &self.rustc.host))
    }

    /// Describes the origin of the standard library in a few words.
    pub(crate) fn describe_std(&self) -> String {
        match &self.std {
            StdSource::Installed => format!("{} in {}", self.triple, self.rustc.sysroot.display()),
            StdSource::Rustup { toolchain, .. } => {
                format!("not installed; the next build adds {} to {toolchain} with rustup", self.triple)
            }
            StdSource::BuildStd => format!("{} built from rust-src with -Zbuild-std", self.triple),
            StdSource::StaticGlibc => {
                format!("{} not installed; {} with static glibc", self.board.triple, self.triple)
            }
        }
    }
}

/// The processor of a triple.
fn arch_of(triple: &str) -> &str {
    triple.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::fake::Machine;
    use super::*;
    use crate::failure::Exit;
    use crate::shell::{MessageFormat, Verbosity};

    const X86: &str = "x86_64-unknown-linux-musl";
    const STD: &str = "toolchains/stable/lib/rustlib/x86_64-unknown-linux-musl/lib/libstd-1.rlib";
    const GNU: &str = "toolchains/stable/lib/rustlib/x86_64-unknown-linux-gnu/lib/libstd-1.rlib";
    const SOURCES: &str = "toolchains/stable/lib/rustlib/src/rust/library/std/Cargo.toml";

    fn machine(host: &str) -> Machine {
        let machine = Machine::new();
        let sysroot = machine.path("toolchains/stable");
        machine.file("toolchains/stable/lib/x");
        machine.program(
            "rustc",
            &format!(
                "case $1 in -vV) echo release: 1.95.0; echo host: {host};; *) echo {} ;; esac",
                sysroot.display()
            ),
        );
        machine
    }

    fn quiet() -> Shell {
        Shell::new(Verbosity::Quiet, MessageFormat::Human)
    }

    fn detect(machine: &Machine, offline: bool) -> Result<Toolchain> {
        let board = Board::named("x86_64").unwrap();
        Toolchain::detect(machine.environment(&[]), board, &machine.path(""), offline)
    }

    #[test]
    fn installed_target_needs_nothing() {
        let machine = machine("x86_64-unknown-linux-gnu");
        machine.file(STD);
        let toolchain = detect(&machine, false).unwrap();
        assert_eq!((toolchain.std, toolchain.triple.as_str()), (StdSource::Installed, X86));
    }

    #[test]
    fn rustup_adds_the_target_to_the_toolchain_in_use() {
        let machine = machine("x86_64-unknown-linux-gnu");
        let std = machine.path(STD);
        machine.program(
            "rustup",
            &format!(
                "test \"$*\" = 'target add --toolchain stable {X86}' || exit 3\n\
                 PATH=/usr/bin:/bin; mkdir -p {} && : > {}",
                std.parent().unwrap().display(),
                std.display()
            ),
        );
        assert!(matches!(detect(&machine, false).unwrap().std, StdSource::Rustup { .. }));
        assert_eq!(
            detect(&machine, false).unwrap().prepare(&machine.path("memory"), quiet()).unwrap().std,
            StdSource::Installed
        );
    }

    #[test]
    fn when_rustup_fails_the_next_way_is_taken() {
        let machine = machine("x86_64-unknown-linux-gnu");
        machine.program("rustup", "echo could not download >&2; exit 1");
        machine.file(GNU);
        let toolchain = detect(&machine, false).unwrap().prepare(&machine.path("memory"), quiet()).unwrap();
        assert_eq!(toolchain.std, StdSource::StaticGlibc);
        assert_eq!(toolchain.triple, "x86_64-unknown-linux-gnu");
        machine.file(SOURCES);
        machine.program("zig", "exit 0");
        let toolchain = detect(&machine, false).unwrap().prepare(&machine.path("memory"), quiet()).unwrap();
        assert_eq!((toolchain.std, toolchain.triple.as_str()), (StdSource::BuildStd, X86));
    }

    #[test]
    fn missing_target_has_help_to_install_it() {
        let machine = machine("aarch64-unknown-linux-gnu");
        machine.file(SOURCES);
        machine.program("rustup", "echo could not download >&2; exit 1");
        let error = detect(&machine, false).unwrap().prepare(&machine.path("memory"), quiet()).unwrap_err();
        assert_eq!(error.exit(), Exit::MissingTool);
        let message = "the Rust target x86_64-unknown-linux-musl of board `x86_64` is not installed";
        assert_eq!(error.to_string(), message);
        let help = "run `rustup target add x86_64-unknown-linux-musl` while the network is up; the sources of Rust \
                    1.95.0 (`rust-src`) and zig (`pip install ziglang`) do as well";
        assert_eq!(error.next_step(), Some(help));
        assert_eq!(detect(&machine, true).unwrap_err().next_step(), Some(help));
    }

    #[test]
    fn no_rustc_is_an_error_that_points_to_rustup() {
        let error = detect(&Machine::new(), false).unwrap_err();
        assert_eq!(error.to_string(), "failed to find rustc");
        assert_eq!(error.next_step(), Some("install Rust: https://rustup.rs"));
    }
}
