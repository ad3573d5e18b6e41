//! The C++ library for a board: zig's libc++ under the names that build scripts ask for.
//!
//! rust-lld links Rust's programs, and neither Rust nor a Debian machine has a C++ library for musl. Zig compiles its own
//! for the target of a program; from a small program, linked once, the archives are taken out of zig's cache. The
//! `cc` crate asks for `stdc++` on musl, other build scripts for `c++`: both are one archive of libc++ and libc++abi.
//! The unwinder is the one that Rust's standard library brings.

use std::fs;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::ToolchainError;
use super::zig::Zig;
use crate::cache;
use crate::failure::Result;
use crate::files::{io_failure, sorted_entries};
use crate::shell::Shell;

/// A program that needs the library.
const PROGRAM: &str = "#include <iostream>\nint main() { std::cout << 1; }\n";

/// The archives of zig that make up the library.
const PARTS: [&str; 2] = ["libc++.a", "libc++abi.a"];

/// Returns the directory of the library for the processor `arch`, which exists once [`make`] has succeeded.
pub(super) fn directory(zig: &Zig, arch: &str) -> PathBuf {
    zig.cache.join(format!("c++-{}-{arch}", zig.version))
}

/// Makes the library for the processor `arch`, which takes zig about a minute.
///
/// # Errors
/// If zig cannot compile it, or the cache cannot be written.
pub(super) fn make(zig: &Zig, env: &Environment, arch: &str, shell: Shell) -> Result<()> {
    let directory = directory(zig, arch);
    let _guard = zig.guard(shell)?;
    // Another process may have made it while we waited.
    if directory.exists() {
        return Ok(());
    }
    shell.status("Compiling", format!("the C++ library of zig {} for {arch}", zig.version));
    cache::complete(&directory, |new| {
        // A cache of its own, in which each archive is there once.
        let objects = new.join("objects");
        let source = new.join("program.cpp");
        fs::write(&source, PROGRAM).map_err(io_failure("write", &source))?;
        let mut command = env.command(&zig.program);
        command.current_dir(new).env("ZIG_GLOBAL_CACHE_DIR", &objects).env("ZIG_LOCAL_CACHE_DIR", &objects);
        command.args(["c++", "-target", &format!("{arch}-linux-musl"), "-O2", "-fno-sanitize=undefined"]);
        run(command.arg("-o").arg("program").arg("program.cpp"))?;
        let mut parts = Vec::new();
        for part in PARTS {
            parts.push(find(&objects, part)?.ok_or_else(|| ToolchainError::CxxLibrary {
                why: format!("zig {} has made no {part}", zig.version),
            })?);
        }
        let script = format!(
            "CREATE libstdc++.a\nADDLIB {}\nADDLIB {}\nSAVE\nEND\n",
            parts[0].display(),
            parts[1].display()
        );
        let list = new.join("list");
        fs::write(&list, script).map_err(io_failure("write", &list))?;
        let input = fs::File::open(&list).map_err(io_failure("read", &list))?;
        run(env.command(&zig.program).current_dir(new).args(["ar", "-M"]).stdin(input))?;
        let library = new.join("libc++.a");
        fs::hard_link(new.join("libstdc++.a"), &library).map_err(io_failure("write", &library))?;
        for file in [&source, &list, &new.join("program")] {
            fs::remove_file(file).map_err(io_failure("remove", file))?;
        }
        fs::remove_dir_all(&objects).map_err(io_failure("remove", &objects))
    })
}

fn run(command: &mut std::process::Command) -> Result<()> {
    let failed = |why: String| ToolchainError::CxxLibrary { why };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()).into())
}

/// Returns the file called `name` below `directory`.
fn find(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for (entry, path, metadata) in sorted_entries(directory)? {
        if metadata.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if entry == name {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
