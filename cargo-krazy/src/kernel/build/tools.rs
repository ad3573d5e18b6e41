//! The programs a kernel is built with: the compiler and everything else, checked before anything starts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::fragment::RequestedOptions;
use crate::board::KernelBuild;
use crate::failure::{Exit, Explain};

/// A compiler for the kernel, with its assembler and linker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compiler {
    /// GNU gcc and binutils; a cross compiler where the host is of another architecture.
    Gcc,
    /// clang, lld and LLVM's tools, which build for every architecture.
    Clang,
}

/// A program, and the Debian package that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    program: String,
    package: String,
}

/// Programs that a build lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// They are not there.
    #[error("a kernel cannot be built without {}", tools.iter().map(|tool| format!("`{}`", tool.program)).collect::<Vec<_>>().join(", "))]
    Missing {
        /// The programs and headers.
        tools: Vec<Tool>,
        /// True if another compiler may be taken.
        choice: bool,
    },
    /// The compiler does not start.
    #[error("failed to run {program}: {error}")]
    NotRun {
        /// The compiler.
        program: String,
        /// The operating system's reason.
        error: io::Error,
    },
}

impl Explain for ToolError {
    fn exit(&self) -> Exit {
        Exit::MissingTool
    }

    fn help(&self) -> Option<String> {
        let ToolError::Missing { tools, choice } = self else { return None };
        let mut packages: Vec<&str> = Vec::new();
        for tool in tools {
            if !packages.contains(&tool.package.as_str()) {
                packages.push(&tool.package);
            }
        }
        let mut help = format!("install them: `sudo apt install {}`", packages.join(" "));
        if *choice && tools.iter().any(|tool| is_compiler(&tool.program)) {
            help.push_str("; in the place of gcc, `clang lld llvm` do as well");
        }
        Some(help)
    }
}

fn tool(program: impl Into<String>, package: &str) -> Tool {
    Tool { program: program.into(), package: package.to_owned() }
}

/// Programs that every compiler and configuration needs.
const GENERAL: &[(&str, &str)] =
    &[("make", "make"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc"), ("perl", "perl")];
/// Compressions of the kernel image: the option and the tool.
const COMPRESSORS: &[(&str, &str, &str)] = &[
    ("KERNEL_ZSTD", "zstd", "zstd"),
    ("KERNEL_LZ4", "lz4", "lz4"),
    ("KERNEL_XZ", "xz", "xz-utils"),
    ("KERNEL_LZO", "lzop", "lzop"),
];

/// The compiler that was chosen, complete with everything else that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// The choice itself.
    pub(crate) compiler: Compiler,
    /// Variables of the kernel's Makefile that choose it.
    pub(crate) variables: Vec<String>,
    /// The compiler's executable.
    pub(crate) program: String,
}

/// The programs and headers of this machine; a test has its own.
pub(crate) struct Machine<'m> {
    /// Its architecture, as in [`std::env::consts::ARCH`].
    pub(crate) arch: &'m str,
    /// True if it has a program.
    pub(crate) has_program: &'m dyn Fn(&str) -> bool,
    /// True if a C compiler finds a header.
    pub(crate) has_header: &'m dyn Fn(&str) -> bool,
}

impl Toolchain {
    /// The compiler `wanted`, else gcc, else clang, for `target`.
    ///
    /// # Errors
    /// Names every missing program or header and the Debian packages to install.
    pub(crate) fn find(
        target: &KernelBuild,
        wanted: Option<Compiler>,
        requested: &RequestedOptions,
    ) -> Result<Self, ToolError> {
        Self::find_on(
            &Machine {
                arch: std::env::consts::ARCH,
                has_program: &|name| path_of(name).is_some(),
                has_header: &has_header,
            },
            target,
            wanted,
            requested,
        )
    }

    fn find_on(
        machine: &Machine<'_>,
        target: &KernelBuild,
        wanted: Option<Compiler>,
        requested: &RequestedOptions,
    ) -> Result<Self, ToolError> {
        let prefix = if machine.arch == target.native { "" } else { target.gcc_prefix };
        let missing = |tools: Vec<Tool>| -> Vec<Tool> {
            tools.into_iter().filter(|tool| !(machine.has_program)(&tool.program)).collect()
        };
        let gcc = || missing(gcc_tools(target, prefix));
        let clang = || missing(clang_tools());
        let (compiler, mut lacks) = match wanted {
            Some(Compiler::Gcc) => (Compiler::Gcc, gcc()),
            Some(Compiler::Clang) => (Compiler::Clang, clang()),
            None if !gcc().is_empty() && clang().is_empty() => (Compiler::Clang, Vec::new()),
            None => (Compiler::Gcc, gcc()),
        };
        lacks.extend(missing(GENERAL.iter().map(|(program, package)| tool(*program, package)).collect()));
        let on = |option: &str| requested.get(option).is_some_and(|option| option.value == "y");
        let compressor = COMPRESSORS.iter().find(|(option, ..)| on(option));
        lacks.extend(missing(
            compressor.map(|(_, program, package)| tool(*program, package)).into_iter().collect(),
        ));
        // objtool, which checks and patches the objects of an x86 kernel, reads them with libelf.
        if target.arch == "x86"
            && lacks.iter().all(|lack| !is_compiler(&lack.program))
            && !(machine.has_header)("libelf.h")
        {
            lacks.push(tool("libelf.h", "libelf-dev"));
        }
        if !lacks.is_empty() {
            return Err(ToolError::Missing { tools: lacks, choice: wanted.is_none() });
        }
        Ok(match compiler {
            Compiler::Gcc => Toolchain {
                compiler,
                variables: (!prefix.is_empty())
                    .then(|| format!("CROSS_COMPILE={prefix}"))
                    .into_iter()
                    .collect(),
                program: format!("{prefix}gcc"),
            },
            Compiler::Clang => {
                Toolchain { compiler, variables: vec!["LLVM=1".to_owned()], program: "clang".to_owned() }
            }
        })
    }

    /// Returns the first line that the compiler prints about itself.
    pub(crate) fn version(&self) -> Result<String, ToolError> {
        let output = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| ToolError::NotRun { program: self.program.clone(), error })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or(&self.program).trim().to_owned())
    }
}

fn is_compiler(program: &str) -> bool {
    program.ends_with("gcc") || program == "clang"
}

fn gcc_tools(target: &KernelBuild, prefix: &str) -> Vec<Tool> {
    let mut tools = vec![tool("gcc", "gcc"), tool("ld", "binutils")];
    if !prefix.is_empty() {
        tools.push(tool(format!("{prefix}gcc"), target.gcc_package));
    }
    tools
}

fn clang_tools() -> Vec<Tool> {
    let llvm = ["llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip"].map(|program| tool(program, "llvm"));
    [tool("clang", "clang"), tool("ld.lld", "lld")].into_iter().chain(llvm).collect()
}

/// Returns the path of `program` on PATH.
pub(crate) fn path_of(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program.as_ref())).find(|file| file.is_file())
}

/// Asks the host's C compiler for a header.
fn has_header(header: &str) -> bool {
    let compiler = ["gcc", "clang", "cc"].into_iter().find(|name| path_of(name).is_some());
    let Some(compiler) = compiler else { return false };
    let include: OsString = header.into();
    Command::new(compiler)
        .args(["-E", "-x", "c", "/dev/null", "-o", "/dev/null", "-include"])
        .arg(include)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    fn find(
        has: &[&str],
        header: bool,
        wanted: Option<Compiler>,
        arch: &str,
    ) -> Result<Toolchain, ToolError> {
        let target = &Board::named("x86_64").unwrap().kernel_build;
        let machine = Machine {
            arch,
            has_program: &|name| has.contains(&name),
            has_header: &|name| header && name == "libelf.h",
        };
        let mut requested = RequestedOptions::default();
        requested.add("a", "CONFIG_KERNEL_ZSTD=y\n").unwrap();
        Toolchain::find_on(&machine, target, wanted, &requested)
    }

    const REST: [&str; 6] = ["make", "flex", "bison", "bc", "perl", "zstd"];
    const LLVM: [&str; 6] = ["clang", "ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-strip"];

    fn with(compilers: &[&'static str]) -> Vec<&'static str> {
        REST.into_iter().chain(compilers.iter().copied()).collect()
    }

    #[test]
    fn gcc_is_taken_before_clang_and_a_cross_compiler_on_other_hosts() {
        let both = with(&[&["gcc", "ld"][..], &LLVM].concat());
        let toolchain = find(&both, true, None, "x86_64").unwrap();
        assert_eq!((toolchain.compiler, toolchain.variables.len()), (Compiler::Gcc, 0));
        let toolchain = find(&both, true, Some(Compiler::Clang), "x86_64").unwrap();
        assert_eq!((toolchain.program.as_str(), toolchain.variables), ("clang", vec!["LLVM=1".to_owned()]));
        assert_eq!(find(&with(&LLVM), true, None, "x86_64").unwrap().compiler, Compiler::Clang);
        let cross = with(&["gcc", "ld", "x86_64-linux-gnu-gcc"]);
        let toolchain = find(&cross, true, None, "aarch64").unwrap();
        assert_eq!(toolchain.variables, ["CROSS_COMPILE=x86_64-linux-gnu-"]);
        assert_eq!(find(&both, true, None, "aarch64").unwrap().compiler, Compiler::Clang);
    }

    #[test]
    fn everything_missing_is_named_at_once_with_its_package() {
        let error = find(&["perl", "gcc", "ld"], false, None, "x86_64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a kernel cannot be built without `make`, `flex`, `bison`, `bc`, `zstd`, `libelf.h`"
        );
        let help = "install them: `sudo apt install make flex bison bc zstd libelf-dev`";
        assert_eq!(error.help().as_deref(), Some(help));
        assert_eq!(error.exit(), Exit::MissingTool);
    }

    #[test]
    fn without_a_compiler_the_help_names_both() {
        let error = find(&REST, true, None, "x86_64").unwrap_err();
        assert_eq!(error.to_string(), "a kernel cannot be built without `gcc`, `ld`");
        let help = error.help().unwrap();
        assert!(
            help.ends_with(
                "`sudo apt install gcc binutils`; in the place of gcc, `clang lld llvm` do as well"
            )
        );
        let error = find(&REST, true, Some(Compiler::Clang), "x86_64").unwrap_err();
        assert_eq!(error.help().as_deref(), Some("install them: `sudo apt install clang lld llvm`"));
    }
}
