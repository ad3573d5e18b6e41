//! The toolchain that makes static binaries for a board on this machine.
//!
//! | standard library | when | linked by |
//! |---|---|---|
//! | compiled, in the sysroot | it is there, or `rustup target add` brings it | the user's linker, else rust-lld |
//! | built from `rust-src` with `-Zbuild-std` | sources are there, and zig is there or can be downloaded | `zig cc`, which brings musl's start files and unwinder |
//! | glibc, `+crt-static` | x86_64 on x86_64 only | the host's `cc` |
//!
//! The user's own cargo configuration (`target.TRIPLE.linker`, `rustflags`, `CC_TRIPLE` …) wins everywhere.
//! [`Toolchain::detect`] only looks; [`Toolchain::prepare`] may add a target.

mod c_compiler;
mod cxx_library;
pub(crate) mod diagnosis;
mod environment;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod instructions;
mod rustc;
mod rustup;
mod settings;
#[cfg(test)]
mod tests;
mod user_config;
mod wrapper;
mod zig;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

pub(crate) use c_compiler::CCompiler;
pub(crate) use environment::Environment;
pub(crate) use rustc::Rustc;
pub(crate) use settings::{CargoSettings, Codegen, Supplied};

use self::error::ToolchainError;
use crate::board::Board;
use crate::failure::Result;
use crate::shell::Shell;
use crate::vendored::Vendored;

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
    c_compiler_identity: OnceCell<String>,
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
        Toolchain::detect(Environment::current(), board, directory, offline)?.prepare(memory, offline, shell)
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
        if rustc.is_older_than(OWN_RUST) {
            let found = rustc.release().to_owned();
            return Err(ToolchainError::OldRust {
                needed: OWN_RUST,
                found,
                pin: pin(directory, rustc.release()),
            }
            .into());
        }
        let rustup = if offline { None } else { env.find("rustup") };
        let std = match (rustc.rustup_toolchain(), rustup) {
            _ if rustc.has_std(board.triple) => StdSource::Installed,
            (Some(name), Some(rustup)) => StdSource::Rustup { rustup, toolchain: name.to_owned() },
            _ => Self::without_target(&env, &rustc, board, offline)?,
        };
        Ok(Self::with(env, rustc, std, board, directory))
    }

    /// The ways that remain when the target's standard library cannot be had.
    fn without_target(
        env: &Environment,
        rustc: &Rustc,
        board: &Board,
        offline: bool,
    ) -> Result<StdSource, ToolchainError> {
        if rustc.has_sources()
            && let CCompiler::Zig(zig) = CCompiler::detect(env, board.triple, &rustc.host)
            && (zig.is_there() || !offline)
        {
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
        let sources = format!("the sources of Rust {} (`rust-src`) do as well", rustc.release());
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
            c_compiler_identity: OnceCell::new(),
        }
    }

    /// Adds the target with rustup where that is the plan; when it fails, takes the next way. The failure is
    /// remembered in the directory `memory`.
    ///
    /// # Errors
    /// `Exit::MissingTool` when no way remains.
    pub(crate) fn prepare(self, memory: &Path, offline: bool, shell: Shell) -> Result<Self> {
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
                _ => Self::without_target(env, rustc, board, offline)?,
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
                if let CCompiler::Zig(zig) = ready.c_compiler() {
                    zig.fetch(ready.vendored().as_ref(), offline, shell)?;
                }
            }
            StdSource::Installed | StdSource::Rustup { .. } => {}
        }
        Ok(ready)
    }

    /// Returns the directory that was vendored for the package.
    pub(crate) fn vendored(&self) -> Option<Vendored> {
        Vendored::find(&self.directory, self.env.cargo_home().as_deref())
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

    /// Its [`CCompiler::identity`], asked for once as well.
    pub(crate) fn c_compiler_identity(&self) -> &str {
        self.c_compiler_identity.get_or_init(|| self.c_compiler().identity(&self.env))
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

/// The oldest release of Rust for our own programs.
const OWN_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Returns the file above `directory` that asks for the Rust `release`. Source: the rustup book, Overrides.
fn pin(directory: &Path, release: &str) -> Option<PathBuf> {
    let minor: Vec<&str> = release.splitn(3, '.').take(2).collect();
    let mut files = directory
        .ancestors()
        .flat_map(|above| ["rust-toolchain", "rust-toolchain.toml"].map(|name| above.join(name)));
    let file = files.find(|file| file.is_file())?;
    // Without the release in it, another override was stronger, or it names a channel.
    std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&minor.join("."))).then_some(file)
}

/// The processor of a triple.
fn arch_of(triple: &str) -> &str {
    triple.split('-').next().unwrap_or_default()
}
