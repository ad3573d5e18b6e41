//! Cargo's settings for a chosen toolchain: compiler flags, linker, and variables for build scripts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::ToolchainError;
use super::wrapper::{self, Wrappers};
use super::{CCompiler, Linker, StdSource, Toolchain, arch_of, cxx_library, diagnosis, user_config};
use crate::failure::Result;
use crate::shell::Shell;

/// The settings that decide the code of the binaries. Cheap to find out, so that it can be part of every freshness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codegen {
    /// The linker.
    pub(crate) linker: Linker,
    /// Flags for rustc, ours before the user's, so that the user's win.
    pub(crate) rustflags: Vec<String>,
}

/// The name of the linker that comes with Rust.
const RUST_LLD: &str = "rust-lld";

/// The part that a build has lacked, and now has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supplied {
    /// Nothing was missing that can be had.
    Nothing,
    /// The C compiler.
    Compiler,
    /// The C++ library.
    CxxLibrary,
}

/// Variables and arguments of `cargo`, besides the command's own arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CargoSettings {
    /// Variables to set.
    pub(crate) env: Vec<(String, OsString)>,
    /// Arguments to add.
    pub(crate) args: Vec<String>,
}

impl Toolchain {
    /// Flags and linker, with the user's cargo configuration merged in as cargo would, unless the program is `ours`.
    ///
    /// `remaps` are pairs of a directory and what to call it in the binaries, the most general first.
    ///
    /// # Errors
    /// `Exit::Config` when the user's cargo configuration cannot be read.
    pub(crate) fn codegen(&self, remaps: &[(PathBuf, String)], ours: bool) -> Result<Codegen> {
        let (user_linker, user_flags) = match ours {
            true => (false, Vec::new()),
            false => user_config::of_target(&self.env, &self.directory, &self.triple)?,
        };
        let linker = match self.choose_linker(user_linker, &user_flags) {
            // Named, so that the user's configuration cannot name another.
            Linker::Default if ours => Linker::Program(PathBuf::from("cc")),
            linker => linker,
        };

        let remap = |(from, to): &(PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        let mut rustflags: Vec<_> = remaps.iter().map(remap).collect();
        match (&self.std, &linker) {
            (StdSource::StaticGlibc, _) => rustflags.push("-Ctarget-feature=+crt-static".to_owned()),
            // Zig brings start files and libc itself; rustc's own copies would be there twice.
            (_, Linker::Zig) => rustflags.push("-Clink-self-contained=no".to_owned()),
            _ => {}
        }
        rustflags.extend(user_flags);
        Ok(Codegen { linker, rustflags })
    }

    fn choose_linker(&self, configured: bool, user_flags: &[String]) -> Linker {
        // Flags for a compiler driver would be unknown to a bare linker.
        let driver = ["-fuse-ld", "-Wl,", "linker=", "linker-flavor"];
        let driver = user_flags.iter().any(|flag| driver.iter().any(|sign| flag.contains(sign)));
        if configured || driver {
            return Linker::User;
        }
        match self.std {
            StdSource::StaticGlibc => {
                return self.env.find("cc").map_or(Linker::Missing, |_| Linker::Default);
            }
            StdSource::BuildStd => return Linker::Zig,
            StdSource::Installed | StdSource::Rustup { .. } => {}
        }
        if self.rustc.has_lld() {
            return Linker::Program(PathBuf::from(RUST_LLD));
        }
        let arch = arch_of(&self.triple);
        let linux = self.rustc.host.contains("linux");
        if let Some(lld) = self.env.find("ld.lld") {
            Linker::Program(lld)
        } else if linux && self.rustc.host_arch() == arch && self.env.find("cc").is_some() {
            Linker::Default
        } else if let Some(gcc) = self.env.find(format!("{arch}-linux-gnu-gcc")) {
            Linker::Program(gcc)
        } else {
            match self.c_compiler() {
                CCompiler::Cross(gcc) => Linker::Program(gcc.clone()),
                CCompiler::Zig(_) => Linker::Zig,
                CCompiler::User(_) | CCompiler::Missing => Linker::Missing,
            }
        }
    }

    /// Returns the path of the linker that comes with Rust, if `linker` is its name.
    fn lld(&self, linker: &Path) -> Option<PathBuf> {
        (linker == Path::new(RUST_LLD)).then(|| self.rustc.lld())
    }

    /// Returns true if [`Toolchain::supply`] may have something to get.
    pub(crate) fn can_supply(&self) -> bool {
        let arch = arch_of(&self.triple);
        matches!(self.c_compiler(), CCompiler::Zig(zig)
            if !zig.is_there() || !cxx_library::directory(zig, arch).exists())
    }

    /// Gets what a finished cargo has lacked: the C compiler, or the C++ library. Returns true if cargo has to be run again,
    /// after [`Toolchain::cargo_settings`] has been called again with the same `directory`.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) fn supply(
        &self,
        stderr: &str,
        success: bool,
        directory: &Path,
        offline: bool,
        shell: Shell,
    ) -> Result<Supplied> {
        let CCompiler::Zig(zig) = self.c_compiler() else { return Ok(Supplied::Nothing) };
        if !zig.is_there() && wrapper::is_wanted(directory) {
            zig.fetch(self.vendored().as_ref(), offline, shell)?;
            return Ok(Supplied::Compiler);
        }
        let arch = arch_of(&self.triple);
        if !success && diagnosis::lacks_cxx_library(stderr) && !cxx_library::directory(zig, arch).exists() {
            cxx_library::make(zig, &self.env, arch, shell)?;
            return Ok(Supplied::CxxLibrary);
        }
        Ok(Supplied::Nothing)
    }

    /// Returns all settings of cargo; writes compiler wrappers into `directory`.
    ///
    /// # Errors
    /// If the wrappers cannot be written, or nothing can link (`Exit::MissingTool`).
    pub(crate) fn cargo_settings(
        &self,
        codegen: &Codegen,
        prefix_maps: &[(PathBuf, String)],
        directory: &Path,
    ) -> Result<CargoSettings> {
        let mut settings = CargoSettings::default();
        let wrappers = Wrappers::write(self.c_compiler(), &self.env, &self.triple, prefix_maps, directory)?;
        let upper = self.triple.replace('-', "_").to_uppercase();
        let mut link_with = |program: &Path| {
            settings.env.push((format!("CARGO_TARGET_{upper}_LINKER"), OsString::from(program)));
        };
        match (&codegen.linker, &wrappers) {
            (Linker::User | Linker::Default, _) => {}
            (Linker::Program(program), _) => match (self.lld(program), self.c_compiler()) {
                (Some(lld), CCompiler::Zig(zig)) => {
                    let libraries = cxx_library::directory(zig, arch_of(&self.triple));
                    link_with(&wrapper::linker(&lld, &libraries, directory)?);
                }
                _ => link_with(program),
            },
            (Linker::Zig, Some(wrappers)) => link_with(&wrappers.cc),
            (Linker::Zig | Linker::Missing, _) => {
                let (triple, host) = (self.triple.clone(), self.rustc.host.clone());
                return Err(ToolchainError::NoLinker { triple, host }.into());
            }
        }
        if let Some(wrappers) = wrappers {
            settings.env.extend(wrappers.variables(&self.env, &self.triple));
        }
        if !codegen.rustflags.is_empty() {
            let flags = codegen.rustflags.join("\u{1f}");
            settings.env.push(("CARGO_ENCODED_RUSTFLAGS".to_owned(), flags.into()));
        }
        if self.std == StdSource::BuildStd {
            // The only way to `-Z` options on a stable compiler; cargo and rustc both read it.
            settings.env.push(("RUSTC_BOOTSTRAP".to_owned(), "1".into()));
            settings.args.push("-Zbuild-std=std,panic_abort".to_owned());
        }
        Ok(settings)
    }
}
