//! The C compiler that makes static objects for a target, for crates with C code in their tree.
//!
//! Only compilers with musl's headers count: what was compiled against glibc's fails at the link, or works by chance. An
//! installed zig comes first, then a musl cross compiler, then the pinned zig, which is downloaded when a build asks for a
//! C compiler.

use std::path::{Path, PathBuf};

use super::arch_of;
use super::environment::Environment;
use super::zig::Zig;

/// Variables of the environment with flags for C compilers; `cc` and others read them with a target's suffix, too.
const FLAGS: [&str; 5] = ["CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CRATE_CC_NO_DEFAULTS"];

/// A way to compile C for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CCompiler {
    /// The user named one in this variable; it is left alone.
    User(String),
    /// `zig cc`.
    Zig(Zig),
    /// A compiler made for exactly this target.
    Cross(PathBuf),
    /// None, and no zig for this machine: crates with C code do not build.
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
        if let Some(zig) = Zig::installed(env) {
            return CCompiler::Zig(zig);
        }
        let musl = [format!("{arch}-linux-musl-gcc"), format!("{arch}-unknown-linux-musl-gcc")];
        let musl = first(env, &musl).or_else(|| native.then(|| env.find("musl-gcc")).flatten());
        if let Some(cc) = musl {
            return CCompiler::Cross(cc);
        }
        Zig::pinned(env, host).map_or(CCompiler::Missing, CCompiler::Zig)
    }

    /// Describes it in a few words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            CCompiler::User(name) => format!("${name}"),
            CCompiler::Zig(zig) if zig.is_there() => format!("{} cc", zig.program.display()),
            CCompiler::Zig(zig) => format!("zig {}, downloaded when a crate has C code", zig.version),
            CCompiler::Cross(path) => path.display().to_string(),
            CCompiler::Missing => "none".to_owned(),
        }
    }

    /// Returns a text that differs where objects of different builds must not be mixed: it names the compiler, its
    /// version, and the flags of the environment.
    pub(crate) fn identity(&self, env: &Environment) -> String {
        let mut identity = match self {
            CCompiler::User(name) => {
                let value = env.var(name).map(|value| value.to_string_lossy().into_owned());
                format!("user {}", value.unwrap_or_default())
            }
            CCompiler::Zig(zig) => format!("zig {}", zig.version),
            CCompiler::Cross(cc) => {
                // A compiler without a version is known by its path alone.
                let version = env.ask(cc, &["--version"], None).unwrap_or_default();
                format!("{} {version}", cc.display())
            }
            CCompiler::Missing => "none".to_owned(),
        };
        for (name, value) in env.vars() {
            let name = name.to_string_lossy();
            if FLAGS.iter().any(|flag| name.contains(flag))
                || name.starts_with("CXX")
                || name.starts_with("AR_")
            {
                identity = format!("{identity}\n{name}={}", value.to_string_lossy());
            }
        }
        identity
    }

    /// Returns the packages to install for a C compiler that serves every crate on this target.
    pub(crate) fn install_help(triple: &str, host: &str) -> String {
        let arch = arch_of(triple);
        let zig =
            "install zig, for every board at once: https://ziglang.org/download or `pip install ziglang`";
        if host.starts_with(arch) {
            format!("{zig}; or, on Debian, `apt install musl-tools`")
        } else {
            zig.to_owned()
        }
    }
}

/// The first of `programs` that is installed.
pub(super) fn first(env: &Environment, programs: &[impl AsRef<Path>]) -> Option<PathBuf> {
    programs.iter().find_map(|program| env.find(program))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    const X86: &str = "x86_64-unknown-linux-musl";
    const ARM: &str = "aarch64-unknown-linux-musl";
    const HOST: &str = "x86_64-unknown-linux-gnu";

    fn zig(machine: &Machine, triple: &str) -> (PathBuf, bool) {
        match CCompiler::detect(&machine.environment(&[]), triple, HOST) {
            CCompiler::Zig(zig) => (zig.program.clone(), zig.is_there()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn users_choice_wins_then_zig_then_musl_compilers_then_the_pinned_zig() {
        let machine = Machine::new();
        let detect = |triple| CCompiler::detect(&machine.environment(&[]), triple, HOST);
        let pinned = machine.path(".cache/krazy/zig/0.17.1/ziglang/zig");
        // Compilers with glibc's headers, or with none, do not count.
        for program in ["gcc", "cc", "clang", "aarch64-linux-gnu-gcc"] {
            machine.program(program, "exit 0");
        }
        assert_eq!(zig(&machine, ARM), (pinned.clone(), false));
        assert_eq!(zig(&machine, X86), (pinned, false));
        machine.program("musl-gcc", "exit 0");
        assert_eq!(detect(X86), CCompiler::Cross(machine.path("musl-gcc")));
        machine.program("aarch64-linux-musl-gcc", "exit 0");
        assert_eq!(detect(ARM), CCompiler::Cross(machine.path("aarch64-linux-musl-gcc")));
        machine.program("zig", "echo 0.16.0");
        assert_eq!(zig(&machine, ARM), (machine.path("zig"), true));
        let env = machine.environment(&[("CC_aarch64_unknown_linux_musl", "mycc")]);
        assert_eq!(
            CCompiler::detect(&env, ARM, HOST),
            CCompiler::User("CC_aarch64_unknown_linux_musl".to_owned())
        );
    }

    #[test]
    fn host_without_a_pinned_zig_has_no_compiler() {
        let machine = Machine::new();
        machine.program("cc", "exit 0");
        let env = machine.environment(&[]);
        assert_eq!(CCompiler::detect(&env, X86, "riscv64gc-unknown-linux-gnu"), CCompiler::Missing);
    }

    #[test]
    fn objects_of_another_compiler_or_flags_have_another_identity() {
        let machine = Machine::new();
        machine.program("musl-gcc", "echo 12");
        let identity = |vars: &[(&str, &str)]| {
            let env = machine.environment(vars);
            CCompiler::detect(&env, X86, HOST).identity(&env)
        };
        let gcc = identity(&[]);
        assert_ne!(gcc, identity(&[("CFLAGS", "-O1")]));
        assert_ne!(gcc, identity(&[("TARGET_CFLAGS", "-O1")]));
        assert_ne!(gcc, identity(&[("CC_x86_64-unknown-linux-musl", "mycc")]));
        assert_eq!(gcc, identity(&[("TERM", "xterm")]));
        machine.program("musl-gcc", "echo 13");
        assert_ne!(gcc, identity(&[]));
        machine.program("zig", "echo 0.16.0");
        assert_eq!(identity(&[]), "zig 0.16.0");
    }
}
