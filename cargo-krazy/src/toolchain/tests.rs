//! The choice of standard library, linker and C compiler.

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
        detect(&machine, false).unwrap().prepare(&machine.path("memory"), false, quiet()).unwrap().std,
        StdSource::Installed
    );
}

#[test]
fn when_rustup_fails_the_next_way_is_taken() {
    let machine = machine("x86_64-unknown-linux-gnu");
    machine.program("rustup", "echo could not download >&2; exit 1");
    machine.file(GNU);
    let toolchain =
        detect(&machine, false).unwrap().prepare(&machine.path("memory"), false, quiet()).unwrap();
    assert_eq!(toolchain.std, StdSource::StaticGlibc);
    assert_eq!(toolchain.triple, "x86_64-unknown-linux-gnu");
    machine.file(SOURCES);
    machine.program("zig", "echo 0.16.0");
    let toolchain =
        detect(&machine, false).unwrap().prepare(&machine.path("memory"), false, quiet()).unwrap();
    assert_eq!((toolchain.std, toolchain.triple.as_str()), (StdSource::BuildStd, X86));
}

#[test]
fn missing_target_has_help_to_install_it() {
    let machine = machine("aarch64-unknown-linux-gnu");
    machine.program("rustup", "echo could not download >&2; exit 1");
    let error =
        detect(&machine, false).unwrap().prepare(&machine.path("memory"), false, quiet()).unwrap_err();
    assert_eq!(error.exit(), Exit::MissingTool);
    let message = "the Rust target x86_64-unknown-linux-musl of board `x86_64` is not installed";
    assert_eq!(error.to_string(), message);
    let help = "run `rustup target add x86_64-unknown-linux-musl` while the network is up; the sources of Rust \
                1.95.0 (`rust-src`) do as well";
    assert_eq!(error.next_step(), Some(help));
    assert_eq!(detect(&machine, true).unwrap_err().next_step(), Some(help));
}

#[test]
fn old_rust_is_refused_with_the_file_that_pins_it() {
    let machine = machine("x86_64-unknown-linux-gnu");
    machine.program(
        "rustc",
        "case $1 in -vV) echo release: 1.90.0; echo host: x86_64-unknown-linux-gnu;; *) echo /x ;; esac",
    );
    let error = detect(&machine, false).unwrap_err();
    assert_eq!(error.to_string(), format!("krazy-init needs Rust {OWN_RUST}, and this is Rust 1.90.0"));
    assert_eq!(error.next_step(), Some("run `rustup update`"));
    std::fs::write(machine.path("rust-toolchain.toml"), "[toolchain]\nchannel = \"1.90\"\n").unwrap();
    let error = detect(&machine, false).unwrap_err();
    let pin = machine.path("rust-toolchain.toml");
    let message = format!("krazy-init needs Rust {OWN_RUST}, and {} asks for Rust 1.90.0", pin.display());
    assert_eq!(error.to_string(), message);
    assert_eq!(error.exit(), Exit::MissingTool);
}

#[test]
fn no_rustc_is_an_error_that_points_to_rustup() {
    let error = detect(&Machine::new(), false).unwrap_err();
    assert_eq!(error.to_string(), "failed to find rustc");
    assert_eq!(error.next_step(), Some("install Rust: https://rustup.rs"));
}
