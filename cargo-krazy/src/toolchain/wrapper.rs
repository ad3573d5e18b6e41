//! Small shell scripts that stand in for a C compiler, so that every build script, whatever way it calls the
//! compiler, gets the arguments the target needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::arch_of;
use super::c_compiler::CCompiler;
use super::environment::Environment;
use crate::plan::quote;

/// Compiler, C++ compiler and archiver for one target, as files to name in `CC_…`, `CXX_…` and `AR_…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrappers {
    /// The C compiler; with zig also a linker.
    pub(crate) cc: PathBuf,
    /// The C++ compiler.
    pub(crate) cxx: PathBuf,
    /// The archiver; the host's serves where this is absent.
    pub(crate) ar: Option<PathBuf>,
}

impl Wrappers {
    /// Writes the scripts into `directory`, which is created. `None` when there is nothing to wrap.
    ///
    /// `prefix_maps` are pairs of a directory and what to call it in the object files, so that `__FILE__` does not
    /// name this machine.
    pub(crate) fn write(
        compiler: &CCompiler,
        env: &Environment,
        triple: &str,
        prefix_maps: &[(PathBuf, String)],
        directory: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let arch = arch_of(triple);
        let mut after = String::new();
        for (from, to) in prefix_maps {
            let flag = format!("-ffile-prefix-map={}={to}", from.display());
            after = format!("{after} {}", quote(&flag));
        }
        // musl has no `__*_chk`, and keeps the stack guard elsewhere than glibc's headers assume.
        const PLAIN: &str = " -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 -fno-stack-protector";
        let sibling = |cc: &Path, cxx: &[&str]| -> PathBuf {
            let name = cc.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = cxx.iter().find_map(|cxx| {
                let stem = ["gcc", "clang", "cc"].iter().find_map(|end| name.strip_suffix(end))?;
                env.find(cc.with_file_name(format!("{stem}{cxx}")))
            });
            // Without a C++ compiler the C compiler's own message names the missing part.
            found.unwrap_or_else(|| cc.to_owned())
        };
        let run = |program: &Path, args: &str, after: &str| {
            format!("#!/bin/sh\nexec {}{args} \"$@\"{after}\n", quote(&program.display().to_string()))
        };
        let (cc, cxx, ar) = match compiler {
            CCompiler::User(_) | CCompiler::Missing => return Ok(None),
            CCompiler::CargoZigbuild(zigbuild) => {
                let tool = |tool: &str| format!(" zig {tool} -- -target {arch}-linux-musl");
                let ar = run(zigbuild, " zig ar --", "");
                (run(zigbuild, &tool("cc"), &after), run(zigbuild, &tool("c++"), &after), Some(ar))
            }
            CCompiler::Zig(zig) => {
                let tool = |tool: &str| filtered_zig(zig, tool, arch, &after);
                (tool("cc"), tool("c++"), Some(run(zig, " ar", "")))
            }
            CCompiler::Cross(cc) => {
                let ar = archiver(env, cc, arch).map(|ar| run(&ar, "", ""));
                (run(cc, "", &after), run(&sibling(cc, &["g++", "c++"]), "", &after), ar)
            }
            CCompiler::GlibcHeaders(cc) => {
                let after = format!("{PLAIN}{after}");
                let ar = archiver(env, cc, arch).map(|ar| run(&ar, "", ""));
                (run(cc, "", &after), run(&sibling(cc, &["g++", "c++"]), "", &after), ar)
            }
            CCompiler::Clang(clang) => {
                let after = format!("{PLAIN}{after}");
                let target = format!(" --target={triple}");
                let ar = env.find("llvm-ar").map(|ar| run(&ar, "", ""));
                (run(clang, &target, &after), run(&sibling(clang, &["clang++"]), &target, &after), ar)
            }
        };
        fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
        Ok(Some(Wrappers {
            cc: script(directory, "cc", &cc)?,
            cxx: script(directory, "c++", &cxx)?,
            ar: ar.map(|ar| script(directory, "ar", &ar)).transpose()?,
        }))
    }

    /// The variables through which the `cc` crate, and what follows its conventions, learn of them. A variable
    /// the user has set is left out.
    pub(crate) fn variables(&self, env: &Environment, triple: &str) -> Vec<(String, OsString)> {
        let triple = triple.replace('-', "_");
        let pairs = [("CC", Some(&self.cc)), ("CXX", Some(&self.cxx)), ("AR", self.ar.as_ref())];
        let named = pairs.into_iter().filter_map(|(tool, path)| Some((format!("{tool}_{triple}"), path?)));
        named
            .filter(|(name, _)| env.var(name).is_none())
            .map(|(name, path)| (name, OsString::from(path)))
            .collect()
    }
}

/// Zig takes its own triples: the Rust triple that the `cc` crate adds for clang-like compilers is dropped.
/// Its undefined-behaviour sanitizer, on by default, would need a run-time library at the final link.
fn filtered_zig(zig: &Path, tool: &str, arch: &str, after: &str) -> String {
    format!(
        "#!/bin/sh\n\
         for arg do\n\
         \x20 shift\n\
         \x20 case \"$arg\" in --target=*) ;; *) set -- \"$@\" \"$arg\" ;; esac\n\
         done\n\
         exec {} {tool} -target {arch}-linux-musl -fno-sanitize=undefined \"$@\"{after}\n",
        quote(&zig.display().to_string())
    )
}

/// The archiver beside a compiler, or LLVM's, or for the host's own processor the host's.
fn archiver(env: &Environment, cc: &Path, arch: &str) -> Option<PathBuf> {
    let name = cc.file_name()?.to_string_lossy().into_owned();
    let prefixed = name.strip_suffix("gcc").filter(|prefix| prefix.starts_with(arch));
    prefixed
        .and_then(|prefix| env.find(cc.with_file_name(format!("{prefix}ar"))))
        .or_else(|| env.find(format!("{arch}-linux-gnu-ar")))
        .or_else(|| env.find("llvm-ar"))
        .or_else(|| env.find("ar"))
}

/// Writes an executable file, touching it only when its content changes.
fn script(directory: &Path, name: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    if !fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("failed to make {} executable", path.display()))?;
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    const ECHO: &str = r#"for arg do printf '[%s]' "$arg"; done"#;

    fn run(script: &Path, args: &[&str]) -> String {
        let output = std::process::Command::new("sh").arg(script).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn zig_gets_its_own_triple_and_not_rusts() {
        let machine = Machine::new();
        machine.program("zig", ECHO);
        let maps = [(PathBuf::from("/home/it's me/.cargo"), "/cargo".to_owned())];
        let triple = "aarch64-unknown-linux-musl";
        let zig = CCompiler::Zig(machine.path("zig"));
        let wrappers = Wrappers::write(&zig, &machine.environment(&[]), triple, &maps, &machine.path("w"))
            .unwrap()
            .unwrap();
        assert_eq!(
            run(&wrappers.cc, &["--target=aarch64-unknown-linux-musl", "-c", "a b.c"]),
            "[cc][-target][aarch64-linux-musl][-fno-sanitize=undefined][-c][a b.c]\
             [-ffile-prefix-map=/home/it's me/.cargo=/cargo]"
        );
        assert_eq!(run(wrappers.ar.as_ref().unwrap(), &["rcs", "x.a"]), "[ar][rcs][x.a]");
        let env = machine.environment(&[("CXX_aarch64_unknown_linux_musl", "mine")]);
        let names: Vec<_> = wrappers.variables(&env, triple).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["CC_aarch64_unknown_linux_musl", "AR_aarch64_unknown_linux_musl"]);
    }

    #[test]
    fn glibc_headers_are_used_without_what_musl_lacks() {
        let machine = Machine::new();
        machine.program("gcc", ECHO);
        machine.program("g++", "echo c++");
        machine.program("ar", ECHO);
        let env = machine.environment(&[]);
        let gcc = CCompiler::GlibcHeaders(machine.path("gcc"));
        let wrappers = Wrappers::write(&gcc, &env, "x86_64-unknown-linux-musl", &[], &machine.path("w"))
            .unwrap()
            .unwrap();
        assert_eq!(
            run(&wrappers.cc, &["-D_FORTIFY_SOURCE=2", "x.c"]),
            "[-D_FORTIFY_SOURCE=2][x.c][-U_FORTIFY_SOURCE][-D_FORTIFY_SOURCE=0][-fno-stack-protector]"
        );
        assert_eq!(run(&wrappers.cxx, &[]), "c++\n");
        assert_eq!(run(wrappers.ar.as_ref().unwrap(), &["t"]), "[t]");
    }

    #[test]
    fn users_compiler_is_not_wrapped() {
        let machine = Machine::new();
        let user = CCompiler::User("TARGET_CC".to_owned());
        let directory = machine.path("w");
        assert_eq!(Wrappers::write(&user, &machine.environment(&[]), "x", &[], &directory).unwrap(), None);
        assert!(!directory.exists());
    }
}
