//! The cause of a failed build, read from the output of cargo, rustc, linkers and build scripts.
//!
//! Their text is not a stable interface: an unknown text gives no diagnosis, and the user has seen it anyway.

use super::{CCompiler, Toolchain};

/// A cause and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// The missing part, in lower case, to follow "because".
    pub(crate) cause: String,
    /// The next step.
    pub(crate) help: String,
    /// True if a tool is missing, rather than something being wrong with the crate.
    pub(crate) missing_tool: bool,
}

/// Reads the end of a failed build's standard error.
pub(crate) fn diagnose(stderr: &str, toolchain: &Toolchain) -> Option<Diagnosis> {
    let triple = &toolchain.triple;
    let help = || CCompiler::install_help(triple, &toolchain.rustc.host);
    let missing = |cause: String, help: String| Some(Diagnosis { cause, help, missing_tool: true });
    if let Some(linker) = between(stderr, "linker `", "` not found") {
        return missing(format!("the linker `{linker}` is not installed"), help());
    }
    let tool = between(stderr, "failed to find tool \"", "\"")
        .or_else(|| between(stderr, "Failed to find tool. Is `", "` installed?"));
    if let Some(tool) = tool {
        return missing(format!("it has C code, and the C compiler `{tool}` is not installed"), help());
    }
    if stderr.contains("Could not find directory of OpenSSL installation") {
        let help = "let it bring OpenSSL, with the feature `vendored` of `openssl` or `native-tls`, or use rustls: many crates \
                    have a feature for that, such as `rustls-tls`";
        return missing(format!("it needs OpenSSL for {triple}"), help.to_owned());
    }
    if stderr.contains("is `cmake` not installed?") {
        return missing("it needs `cmake`".to_owned(), "install it: `apt install cmake`".to_owned());
    }
    if let Some(program) = between(stderr, "Could not find `", "`") {
        return missing(format!("it needs `{program}`"), format!("install `{program}`"));
    }
    if let Some(header) = between(stderr, "fatal error: ", ": No such file or directory")
        .or_else(|| between(stderr, "fatal error: '", "' file not found"))
    {
        let help = match toolchain.c_compiler() {
            CCompiler::Missing => help(),
            _ => format!("install what provides `{header}` for {triple}"),
        };
        return missing(format!("its C code needs the header `{header}` for {triple}"), help);
    }
    if lacks_cxx_library(stderr) {
        let help = format!(
            "set `linker` in `[target.{triple}]` of .cargo/config.toml to a C++ cross compiler for musl"
        );
        return missing(format!("it has C++ code, and there is no C++ library for {triple}"), help);
    }
    // glibc's headers rename functions to symbols that musl does not have.
    let renamed =
        ["__isoc23_", "_chk", "__fdelt", "__longjmp_chk", "stat64", "fcntl64", "mmap64", "lseek64", "open64"];
    if renamed.iter().any(|symbol| undefined(stderr, symbol)) {
        // Linkers name the objects; rustc's are those of its codegen units. Source: the change log of libc 0.2.146.
        if stderr.contains(".rcgu.o:(") {
            let release = toolchain.rustc.release();
            return Some(Diagnosis {
                cause: format!("its version of the crate `libc` is too old for the musl of Rust {release}"),
                help: "set `locked = false` for it; in a workspace of yours, run `cargo update -p libc`"
                    .to_owned(),
                missing_tool: false,
            });
        }
        return missing("its C code was compiled with glibc's headers".to_owned(), help());
    }
    None
}

/// Returns true if the link has failed because there is no C++ library.
pub(super) fn lacks_cxx_library(stderr: &str) -> bool {
    let missing = ["unable to find library", "cannot find", "could not find native static library"];
    stderr.lines().any(|line| {
        missing.iter().any(|start| line.contains(start))
            && ["-lstdc++", "-lc++", "`stdc++`", "`c++`"].iter().any(|library| line.contains(library))
    })
}

fn undefined(stderr: &str, symbol: &str) -> bool {
    stderr.lines().any(|line| {
        line.contains(symbol) && (line.contains("undefined symbol") || line.contains("undefined ref"))
    })
}

/// The text between the first `start` and the next `end` on the same line.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(start)?;
        Some(rest.split_once(end)?.0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;
    use crate::board::Board;

    fn cause(stderr: &str) -> Option<String> {
        let machine = Machine::new();
        let sysroot = machine.path("toolchains/stable").display().to_string();
        machine.file("toolchains/stable/lib/rustlib/x86_64-unknown-linux-musl/lib/libstd-1.rlib");
        machine.program(
            "rustc",
            &format!("case $1 in -vV) echo host: x86_64-unknown-linux-gnu;; *) echo {sysroot};; esac"),
        );
        let board = Board::named("x86_64").unwrap();
        let toolchain = Toolchain::detect(machine.environment(&[]), board, &machine.path(""), true).unwrap();
        diagnose(stderr, &toolchain).map(|diagnosis| format!("{}; {}", diagnosis.cause, diagnosis.help))
    }

    #[test]
    fn missing_compiler_is_named_with_what_to_install() {
        let help = "install zig, for every board at once: https://ziglang.org/download or `pip install ziglang`; or, on Debian, \
                    `apt install musl-tools`";
        let old = "error occurred: Failed to find tool. Is `x86_64-linux-musl-gcc` installed? (see …)";
        let new = "  error occurred in cc-rs: failed to find tool \"x86_64-linux-musl-gcc\": No such file";
        let expected =
            format!("it has C code, and the C compiler `x86_64-linux-musl-gcc` is not installed; {help}");
        assert_eq!(cause(old).as_deref(), Some(expected.as_str()));
        assert_eq!(cause(new).as_deref(), Some(expected.as_str()));
        assert_eq!(
            cause("error: linker `cc` not found"),
            Some(format!("the linker `cc` is not installed; {help}"))
        );
        assert_eq!(
            cause("x.c:1:10: fatal error: linux/if.h: No such file or directory"),
            Some(
                "its C code needs the header `linux/if.h` for x86_64-unknown-linux-musl; install what provides `linux/if.h` \
                 for x86_64-unknown-linux-musl"
                    .to_owned()
            )
        );
        assert_eq!(
            cause("  Could not find directory of OpenSSL installation, and this `-sys` crate cannot proceed without").unwrap(),
            "it needs OpenSSL for x86_64-unknown-linux-musl; let it bring OpenSSL, with the feature `vendored` of \
             `openssl` or `native-tls`, or use rustls: many crates have a feature for that, such as `rustls-tls`"
        );
        assert_eq!(
            cause("rust-lld: error: undefined symbol: __isoc23_strtol"),
            Some(format!("its C code was compiled with glibc's headers; {help}"))
        );
        let old = "rust-lld: error: undefined symbol: open64\n>>> referenced by a-cgu.11\n>>>  a.a-cgu.11.rcgu.o:(_ZN1a)";
        assert_eq!(
            cause(old).unwrap().split_once(" for the musl of Rust ").unwrap().0,
            "its version of the crate `libc` is too old"
        );
    }

    #[test]
    fn other_errors_are_left_to_the_compiler() {
        assert_eq!(cause("error[E0308]: mismatched types\n`x_chk` not found in scope"), None);
    }
}
