//! The C compiler that makes static objects for a target, for crates with C code in their tree.
//!
//! Zig comes first: it brings musl's headers for every target. A musl cross compiler is as good for its one
//! target. A compiler with glibc headers serves most C libraries once fortification and stack protectors,
//! whose symbols musl lacks, are off.

use std::path::{Path, PathBuf};

use super::arch_of;
use super::environment::Environment;

/// A way to compile C for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CCompiler {
    /// The user named one in this variable; it is left alone.
    User(String),
    /// `cargo-zigbuild zig cc`, which knows how to translate more arguments than our own wrapper.
    CargoZigbuild(PathBuf),
    /// `zig cc`.
    Zig(PathBuf),
    /// A compiler made for exactly this target.
    Cross(PathBuf),
    /// A compiler for the right processor, but with glibc's headers.
    GlibcHeaders(PathBuf),
    /// Clang, told the target.
    Clang(PathBuf),
    /// None: crates with C code do not build.
    Missing,
}

impl CCompiler {
    /// Looks for a compiler for `triple` on a host with processor and system `host` (a triple as well).
    pub(crate) fn detect(env: &Environment, triple: &str, host: &str) -> Self {
        let user = [format!("CC_{triple}"), format!("CC_{}", triple.replace('-', "_")), "TARGET_CC".into()];
        if let Some(name) = user.into_iter().find(|name| env.var(name).is_some()) {
            return CCompiler::User(name);
        }
        let arch = arch_of(triple);
        let native = host.starts_with(&format!("{arch}-")) && host.contains("linux");
        if triple.ends_with("-gnu") {
            let found = native.then(|| first(env, &["cc", "gcc", "clang"])).flatten();
            return found.map_or(CCompiler::Missing, CCompiler::Cross);
        }
        if let Some(zig) = find_zig(env) {
            return env.find("cargo-zigbuild").map_or(CCompiler::Zig(zig), CCompiler::CargoZigbuild);
        }
        let musl = [format!("{arch}-linux-musl-gcc"), format!("{arch}-unknown-linux-musl-gcc")];
        let musl = first(env, &musl).or_else(|| native.then(|| env.find("musl-gcc")).flatten());
        if let Some(cc) = musl {
            return CCompiler::Cross(cc);
        }
        let gnu = env.find(format!("{arch}-linux-gnu-gcc"));
        if let Some(cc) = gnu.or_else(|| native.then(|| first(env, &["gcc", "cc"])).flatten()) {
            return CCompiler::GlibcHeaders(cc);
        }
        env.find("clang").map_or(CCompiler::Missing, CCompiler::Clang)
    }

    /// Returns true if it brings musl's headers, so that any C library can be expected to build.
    pub(crate) fn has_musl_headers(&self) -> bool {
        matches!(self, CCompiler::CargoZigbuild(_) | CCompiler::Zig(_) | CCompiler::Cross(_))
    }

    /// Returns true if it brings a whole musl libc and unwinder, so that it can link what cargo built with `-Zbuild-std`.
    pub(crate) fn is_zig(&self) -> bool {
        matches!(self, CCompiler::CargoZigbuild(_) | CCompiler::Zig(_))
    }

    /// Describes it in a few words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            CCompiler::User(name) => format!("${name}"),
            CCompiler::CargoZigbuild(path) => format!("zig cc through {}", path.display()),
            CCompiler::Zig(path) => format!("{} cc", path.display()),
            CCompiler::Cross(path) => path.display().to_string(),
            CCompiler::GlibcHeaders(path) => format!("{} (glibc headers)", path.display()),
            CCompiler::Clang(path) => format!("{} (without musl headers)", path.display()),
            CCompiler::Missing => "none".to_owned(),
        }
    }

    /// Returns the packages to install for a C compiler that serves every crate on this target.
    pub(crate) fn install_help(triple: &str, host: &str) -> String {
        let arch = arch_of(triple);
        let zig =
            "install zig, for every board at once: https://ziglang.org/download or `pip install ziglang`";
        if host.starts_with(arch) {
            format!("{zig}; or, on Debian, `apt install musl-tools`")
        } else {
            format!("{zig}; or, on Debian, `apt install gcc-{}-linux-gnu`", arch.replace('_', "-"))
        }
    }
}

/// Zig on `PATH`, else the one in Python's `ziglang` package.
pub(crate) fn find_zig(env: &Environment) -> Option<PathBuf> {
    if let Some(zig) = env.find("zig") {
        return Some(zig);
    }
    const LOCATE: &str = "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
    let python = first(env, &["python3", "python"])?;
    // A Python without the package answers with an error: then there is no zig.
    let zig = env.ask(&python, &["-c", LOCATE], None).ok()?;
    env.find(Path::new(&zig))
}

fn first(env: &Environment, programs: &[impl AsRef<Path>]) -> Option<PathBuf> {
    programs.iter().find_map(|program| env.find(program))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    const X86: &str = "x86_64-unknown-linux-musl";
    const ARM: &str = "aarch64-unknown-linux-musl";
    const HOST: &str = "x86_64-unknown-linux-gnu";

    #[test]
    fn users_choice_wins_then_zig_then_cross_compilers() {
        let machine = Machine::new();
        let detect = |triple| CCompiler::detect(&machine.environment(&[]), triple, HOST);
        assert_eq!(detect(ARM), CCompiler::Missing);
        machine.program("clang", "exit 0");
        assert_eq!(detect(ARM), CCompiler::Clang(machine.path("clang")));
        machine.program("gcc", "exit 0");
        assert_eq!(detect(X86), CCompiler::GlibcHeaders(machine.path("gcc")));
        assert_eq!(detect(ARM), CCompiler::Clang(machine.path("clang")));
        machine.program("aarch64-linux-gnu-gcc", "exit 0");
        assert_eq!(detect(ARM), CCompiler::GlibcHeaders(machine.path("aarch64-linux-gnu-gcc")));
        machine.program("musl-gcc", "exit 0");
        assert_eq!(detect(X86), CCompiler::Cross(machine.path("musl-gcc")));
        machine.program("aarch64-linux-musl-gcc", "exit 0");
        assert_eq!(detect(ARM), CCompiler::Cross(machine.path("aarch64-linux-musl-gcc")));
        machine.program("zig", "exit 0");
        assert_eq!(detect(ARM), CCompiler::Zig(machine.path("zig")));
        machine.program("cargo-zigbuild", "exit 0");
        assert_eq!(detect(X86), CCompiler::CargoZigbuild(machine.path("cargo-zigbuild")));
        let env = machine.environment(&[("CC_aarch64_unknown_linux_musl", "mycc")]);
        assert_eq!(
            CCompiler::detect(&env, ARM, HOST),
            CCompiler::User("CC_aarch64_unknown_linux_musl".to_owned())
        );
        assert_eq!(
            CCompiler::detect(&env, X86, HOST),
            CCompiler::CargoZigbuild(machine.path("cargo-zigbuild"))
        );
    }

    #[test]
    fn host_that_is_not_linux_does_not_use_its_own_compiler() {
        let machine = Machine::new();
        machine.program("cc", "exit 0");
        let env = machine.environment(&[]);
        assert_eq!(CCompiler::detect(&env, X86, "x86_64-apple-darwin"), CCompiler::Missing);
    }

    #[test]
    fn zig_is_found_in_pythons_package() {
        let machine = Machine::new();
        machine.program("ziglang-zig", "exit 0");
        machine.program("python3", &format!("echo {}", machine.path("ziglang-zig").display()));
        assert_eq!(find_zig(&machine.environment(&[])), Some(machine.path("ziglang-zig")));
        machine.program("python3", "echo ModuleNotFoundError >&2; exit 1");
        assert_eq!(find_zig(&machine.environment(&[])), None);
    }
}
