//! The Rust compiler that cargo will use for the user's package, and the content of its sysroot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::environment::Environment;
use super::error::ToolchainError;
use crate::failure::Result;

/// A compiler and its sysroot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rustc {
    /// `rustc -vV`, complete: two compilers that agree here produce the same code.
    pub(crate) version: String,
    /// Its own target.
    pub(crate) host: String,
    /// `rustc --print sysroot`.
    pub(crate) sysroot: PathBuf,
    program: PathBuf,
}

impl Rustc {
    /// Asks the compiler that cargo would use in `directory`, so that a `rust-toolchain.toml` there counts:
    /// `$RUSTC`, else the one beside `$CARGO`, else the one on `PATH`.
    ///
    /// # Errors
    /// If there is no compiler or it does not answer.
    pub(crate) fn query(env: &Environment, directory: &Path) -> Result<Self> {
        let beside = env.var("CARGO").map(|cargo| Path::new(cargo).with_file_name("rustc"));
        let program = env
            .var("RUSTC")
            .and_then(|rustc| env.find(rustc))
            .or_else(|| beside.and_then(|rustc| env.find(rustc)))
            .or_else(|| env.find("rustc"))
            .ok_or(ToolchainError::NoRustc)?;
        let version = env.ask(&program, &["-vV"], Some(directory))?;
        let sysroot = env.ask(&program, &["--print", "sysroot"], Some(directory))?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .with_context(|| format!("`{} -vV` names no host", program.display()))?
            .to_owned();
        Ok(Rustc { host, version, sysroot: PathBuf::from(sysroot), program })
    }

    /// The release, such as `1.95.0`.
    pub(crate) fn release(&self) -> &str {
        self.version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap_or("unknown")
    }

    /// Returns its names of the target features that it uses for `triple` with `flags`.
    ///
    /// # Errors
    /// If it does not know a processor that a flag names.
    pub(super) fn features(
        &self,
        env: &Environment,
        triple: &str,
        flags: &[String],
    ) -> Result<BTreeSet<String>> {
        let mut arguments = vec!["--print", "cfg", "--target", triple];
        arguments.extend(flags.iter().map(String::as_str));
        let text = env.ask(&self.program, &arguments, None)?;
        let feature =
            |line: &str| Some(line.strip_prefix("target_feature=\"")?.strip_suffix('"')?.to_owned());
        Ok(text.lines().filter_map(feature).collect())
    }

    /// Returns true if its release is older than `wanted`, such as `1.95`. One that names no release counts as new.
    pub(crate) fn is_older_than(&self, wanted: &str) -> bool {
        let parts = |release: &str| -> Option<(u32, u32)> {
            let mut parts = release.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        match (parts(self.release()), parts(wanted)) {
            (Some(found), Some(wanted)) => found < wanted,
            _ => false,
        }
    }

    /// Returns true if a compiled standard library for `triple` is there; true for rustup's and distributions' layouts.
    pub(crate) fn has_std(&self, triple: &str) -> bool {
        let lib = self.sysroot.join("lib/rustlib").join(triple).join("lib");
        lib.read_dir().is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| {
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    name.starts_with("libstd-") && name.ends_with(".rlib")
                })
            })
        })
    }

    /// Returns true if the standard library's sources (`rust-src`) are there.
    pub(crate) fn has_sources(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
    }

    /// Returns true if the linker that comes with Rust is there; rustc then finds it by its bare name.
    pub(crate) fn has_lld(&self) -> bool {
        self.lld().is_file()
    }

    /// The path of the linker that comes with Rust.
    pub(crate) fn lld(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(&self.host).join("bin/rust-lld")
    }

    /// The name rustup knows the toolchain by, if rustup manages it and could add a target to it.
    pub(crate) fn rustup_toolchain(&self) -> Option<&str> {
        let parent = self.sysroot.parent()?;
        let managed = parent.file_name()? == "toolchains" && !self.sysroot.is_symlink();
        managed.then(|| self.sysroot.file_name()?.to_str()).flatten()
    }

    /// The processor of the host, such as `x86_64`.
    pub(crate) fn host_arch(&self) -> &str {
        self.host.split('-').next().unwrap_or_default()
    }
}
