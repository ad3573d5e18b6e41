//! The tools that a board needs on this machine, found or missing, each with the next step. Nothing is changed.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::board::Board;
use crate::failure::{Failure, chain};
use crate::kernel::source::cache::KernelCache;
use crate::qemu::install_hint;
use crate::toolchain::{CCompiler, Environment, Linker, Rustc, StdSource, Toolchain};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// There.
    Ok,
    /// The board can be built without it; something else cannot.
    Warning,
    /// The board cannot be built.
    Missing,
}

/// One thing a board needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The tool that is needed.
    pub(crate) item: &'static str,
    /// Its presence.
    pub(crate) status: Status,
    /// The version or the problem that was found.
    pub(crate) found: String,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Finding {
    fn new(item: &'static str, status: Status, found: impl Into<String>) -> Self {
        Finding { item, status, found: found.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Finding { help: Some(help.into()), ..self }
    }

    /// Something missing, as the failure that a build would end with.
    fn failed(item: &'static str, error: &Failure) -> Self {
        let finding = Finding::new(item, Status::Missing, chain(error));
        Finding { help: error.next_step().map(str::to_owned), ..finding }
    }
}

/// Examines `env` for `board`. Cargo configuration and toolchain are those of `directory`.
pub(crate) fn examine(env: &Environment, board: &'static Board, directory: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rustc = Rustc::query(env, directory);
    match &rustc {
        Ok(rustc) => findings.push(Finding::new(
            "rustc",
            Status::Ok,
            format!("{} for {} in {}", rustc.release(), rustc.host, rustc.sysroot.display()),
        )),
        Err(error) => findings.push(Finding::failed("rustc", error)),
    }
    findings.push(match env.ask(&env.cargo(), &["--version"], Some(directory)) {
        Ok(version) => Finding::new("cargo", Status::Ok, version),
        Err(error) => Finding::failed("cargo", &error.into()).help("install Rust: https://rustup.rs"),
    });
    match Toolchain::detect(env.clone(), board, directory, false) {
        Ok(toolchain) => {
            findings.push(target(&toolchain, board));
            findings.push(linker(&toolchain));
            findings.push(c_compiler(&toolchain));
        }
        // Without a compiler nothing else can be said about the build.
        Err(_) if rustc.is_err() => {}
        Err(error) => findings.push(Finding::failed("target", &error)),
    }
    findings.push(qemu(env, board));
    findings.push(kernels());
    findings
}

fn target(toolchain: &Toolchain, board: &Board) -> Finding {
    let found = toolchain.describe_std();
    match toolchain.std {
        StdSource::Installed => Finding::new("target", Status::Ok, found),
        StdSource::BuildStd => Finding::new("target", Status::Ok, found)
            .help(format!("builds start faster after `rustup target add {}`", board.triple)),
        StdSource::Rustup { .. } | StdSource::StaticGlibc => Finding::new("target", Status::Warning, found)
            .help(Toolchain::target_help(&toolchain.rustc, board)),
    }
}

fn linker(toolchain: &Toolchain) -> Finding {
    let codegen = match toolchain.codegen(&[], false) {
        Ok(codegen) => codegen,
        Err(error) => return Finding::failed("linker", &error),
    };
    let found = match codegen.linker {
        Linker::User => "chosen by cargo's configuration or RUSTFLAGS".to_owned(),
        Linker::Default => "cc".to_owned(),
        Linker::Program(program) => program.display().to_string(),
        Linker::Zig => toolchain.c_compiler().describe(),
        Linker::Missing => {
            return Finding::new("linker", Status::Missing, "none")
                .help(CCompiler::install_help(&toolchain.triple, &toolchain.rustc.host));
        }
    };
    Finding::new("linker", Status::Ok, found)
}

fn c_compiler(toolchain: &Toolchain) -> Finding {
    let compiler = toolchain.c_compiler();
    let help = || CCompiler::install_help(&toolchain.triple, &toolchain.rustc.host);
    let found = compiler.describe();
    match compiler {
        CCompiler::Missing => {
            Finding::new("C compiler", Status::Warning, "none: crates with C code do not build").help(help())
        }
        _ => Finding::new("C compiler", Status::Ok, found),
    }
}

fn qemu(env: &Environment, board: &Board) -> Finding {
    let Some(path) = env.find(board.qemu) else {
        return Finding::new("QEMU", Status::Warning, format!("no {}: run-qemu does not work", board.qemu))
            .help(install_hint(board.qemu));
    };
    match env.ask(&path, &["--version"], None) {
        Ok(version) => Finding::new("QEMU", Status::Ok, version.lines().next().unwrap_or_default()),
        Err(error) => {
            let found = format!("{error:#}");
            Finding::new("QEMU", Status::Warning, found).help(install_hint(board.qemu))
        }
    }
}

fn kernels() -> Finding {
    match KernelCache::of_user() {
        Ok(cache) => {
            let directory = cache.directory().display();
            match fs::create_dir_all(cache.directory())
                .and_then(|()| tempfile::tempfile_in(cache.directory()))
            {
                Ok(_) => Finding::new("kernel cache", Status::Ok, directory.to_string()),
                Err(error) => Finding::new("kernel cache", Status::Missing, format!("{directory}: {error}"))
                    .help("make it writable, or set KRAZY_CACHE_DIR to another directory"),
            }
        }
        Err(error) => Finding::failed("kernel cache", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::fake::Machine;

    fn statuses(machine: &Machine) -> Vec<(&'static str, Status)> {
        let cargo = machine.path("cargo").display().to_string();
        let env = machine.environment(&[("CARGO", &cargo)]);
        let findings = examine(&env, Board::named("x86_64").unwrap(), &machine.path(""));
        for finding in &findings {
            assert!(finding.status == Status::Ok || finding.help.is_some(), "{finding:?}");
        }
        findings.iter().map(|finding| (finding.item, finding.status)).collect()
    }

    #[test]
    fn a_machine_without_anything_is_told_what_to_install() {
        let machine = Machine::new();
        assert_eq!(
            statuses(&machine),
            [
                ("rustc", Status::Missing),
                ("cargo", Status::Missing),
                ("QEMU", Status::Warning),
                ("kernel cache", Status::Ok)
            ]
        );
    }

    #[test]
    fn what_can_be_done_without_is_a_warning() {
        let machine = Machine::new();
        machine.program("cargo", "echo cargo 1.95.0");
        let sysroot = machine.path("toolchains/stable");
        machine.file("toolchains/stable/lib/rustlib/x86_64-unknown-linux-musl/lib/libstd-1.rlib");
        machine.program(
            "rustc",
            &format!(
                "case $1 in -vV) echo release: 1.95.0; echo host: riscv64gc-unknown-linux-gnu;; *) echo {};; esac",
                sysroot.display()
            ),
        );
        let status = |item: &str| statuses(&machine).into_iter().find(|(name, _)| *name == item).unwrap().1;
        assert_eq!(status("target"), Status::Ok);
        assert_eq!(status("linker"), Status::Missing);
        assert_eq!(status("C compiler"), Status::Warning);
        machine.file("toolchains/stable/lib/rustlib/riscv64gc-unknown-linux-gnu/bin/rust-lld");
        assert_eq!(status("linker"), Status::Ok);
        machine.program("x86_64-linux-musl-gcc", "exit 0");
        assert_eq!(status("C compiler"), Status::Ok);
        machine.program("qemu-system-x86_64", "echo QEMU emulator version 7.2.0");
        assert_eq!(status("QEMU"), Status::Ok);
    }
}
