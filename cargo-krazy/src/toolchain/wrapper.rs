//! Small shell scripts that stand in for a C compiler, so that every build script, whatever way it calls the
//! compiler, gets the arguments the target needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::arch_of;
use super::c_compiler::CCompiler;
use super::environment::Environment;
use super::zig::Zig;
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
        let sibling = |cc: &Path| -> PathBuf {
            let name = cc.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = ["g++", "c++"].iter().find_map(|cxx| {
                let stem = ["gcc", "clang", "cc"].iter().find_map(|end| name.strip_suffix(end))?;
                env.find(cc.with_file_name(format!("{stem}{cxx}")))
            });
            // Without a C++ compiler the C compiler's own message names the missing part.
            found.unwrap_or_else(|| cc.to_owned())
        };
        let run =
            |program: &Path, after: &str| format!("#!/bin/sh\nexec {} \"$@\"{after}\n", quoted(program));
        let (cc, cxx, ar) = match compiler {
            CCompiler::User(_) | CCompiler::Missing => return Ok(None),
            CCompiler::Zig(zig) if !zig.is_there() => {
                let script = wanted(directory, &zig.version);
                (script.clone(), script, None)
            }
            CCompiler::Zig(zig) => {
                let tool = |tool: &str| zig_script(zig, tool, arch, &after);
                let ar = format!("#!/bin/sh\n{}exec {} ar \"$@\"\n", zig_cache(zig), quoted(&zig.program));
                (tool("cc"), tool("c++"), Some(ar))
            }
            CCompiler::Cross(cc) => {
                let ar = archiver(env, cc, arch).map(|ar| run(&ar, ""));
                (run(cc, &after), run(&sibling(cc), &after), ar)
            }
        };
        fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
        match fs::remove_file(directory.join(WANTED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to write {}", directory.display()));
            }
            _ => {}
        }
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

/// The file in a directory of wrappers that says that a build has asked for the C compiler.
const WANTED: &str = "wanted";

/// Returns true if a build has asked for a compiler that was not there, since the wrappers in `directory` were written.
pub(crate) fn is_wanted(directory: &Path) -> bool {
    directory.join(WANTED).exists()
}

/// The script in place of a compiler that is not there yet: it remembers that it was run, and fails.
fn wanted(directory: &Path, version: &str) -> String {
    let marker = quoted(&directory.join(WANTED));
    format!("#!/bin/sh\n: >{marker}\necho 'zig {version} is not downloaded yet' >&2\nexit 1\n")
}

/// Zig takes its own triples: the Rust triple that the `cc` crate adds for clang-like compilers is dropped.
/// Its undefined-behaviour sanitizer, on by default, would need a run-time library at the final link.
fn zig_script(zig: &Zig, tool: &str, arch: &str, after: &str) -> String {
    format!(
        "#!/bin/sh\n\
         {}for arg do\n\
         \x20 shift\n\
         \x20 case \"$arg\" in --target=*) ;; *) set -- \"$@\" \"$arg\" ;; esac\n\
         done\n\
         exec {} {tool} -target {arch}-linux-musl -fno-sanitize=undefined \"$@\"{after}\n",
        zig_cache(zig),
        quoted(&zig.program)
    )
}

/// The lines that give zig a cache where nobody has chosen one: the home directory may not be there.
fn zig_cache(zig: &Zig) -> String {
    let default = quoted(&zig.objects());
    format!("[ -n \"$ZIG_GLOBAL_CACHE_DIR\" ] || export ZIG_GLOBAL_CACHE_DIR={default}\n")
}

fn quoted(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// Writes a linker into `directory` that finds the libraries in `libraries`, if that exists, and returns its path. Its name
/// tells rustc which arguments it takes; `lld` itself is told by an argument.
pub(super) fn linker(lld: &Path, libraries: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
    let search = if libraries.is_dir() { format!(" -L {}", quoted(libraries)) } else { String::new() };
    script(directory, "ld.lld", &format!("#!/bin/sh\nexec {} -flavor gnu \"$@\"{search}\n", quoted(lld)))
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
        machine.program(
            "zig",
            &format!("if [ $1 = version ]; then echo 0.16.0; exit; fi; {ECHO}; echo $ZIG_GLOBAL_CACHE_DIR"),
        );
        let maps = [(PathBuf::from("/home/it's me/.cargo"), "/cargo".to_owned())];
        let triple = "aarch64-unknown-linux-musl";
        let env = machine.environment(&[("CXX_aarch64_unknown_linux_musl", "mine")]);
        let zig = CCompiler::Zig(Zig::installed(&env).unwrap());
        let wrappers = Wrappers::write(&zig, &env, triple, &maps, &machine.path("w")).unwrap().unwrap();
        let cache = machine.path(".cache/krazy/zig/objects");
        assert_eq!(
            run(&wrappers.cc, &["--target=aarch64-unknown-linux-musl", "-c", "a b.c"]),
            format!(
                "[cc][-target][aarch64-linux-musl][-fno-sanitize=undefined][-c][a b.c]\
                 [-ffile-prefix-map=/home/it's me/.cargo=/cargo]{}\n",
                cache.display()
            )
        );
        assert!(run(wrappers.ar.as_ref().unwrap(), &["rcs", "x.a"]).starts_with("[ar][rcs][x.a]"));
        let names: Vec<_> = wrappers.variables(&env, triple).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["CC_aarch64_unknown_linux_musl", "AR_aarch64_unknown_linux_musl"]);
    }

    #[test]
    fn compiler_that_is_not_there_says_that_it_was_wanted() {
        let machine = Machine::new();
        let env = machine.environment(&[]);
        let zig = CCompiler::Zig(Zig::pinned(&env, "x86_64-unknown-linux-gnu").unwrap());
        let directory = machine.path("w");
        let write =
            || Wrappers::write(&zig, &env, "x86_64-unknown-linux-musl", &[], &directory).unwrap().unwrap();
        let wrappers = write();
        assert!(!is_wanted(&directory));
        assert_eq!(run(&wrappers.cxx, &["-c", "x.cpp"]), "");
        assert!(is_wanted(&directory));
        write();
        assert!(!is_wanted(&directory));
        let program = machine.path(".cache/krazy/zig/0.17.1/ziglang/zig");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        assert!(fs::read_to_string(write().cc).unwrap().contains("exec "));
    }

    #[test]
    fn linker_finds_the_cxx_library_once_it_is_there() {
        let machine = Machine::new();
        machine.program("rust-lld", ECHO);
        let (libraries, directory) = (machine.path("c++"), machine.path("w"));
        let link = || run(&linker(&machine.path("rust-lld"), &libraries, &directory).unwrap(), &["x.o"]);
        assert_eq!(link(), "[-flavor][gnu][x.o]");
        fs::create_dir(&libraries).unwrap();
        assert_eq!(link(), format!("[-flavor][gnu][x.o][-L][{}]", libraries.display()));
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
