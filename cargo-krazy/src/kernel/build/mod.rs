//! `cargo krazy kernel build`: a kernel of our own from upstream source, with everything built in.
//!
//! ```text
//! Source → Tree ─┐
//! fragments → RequestedOptions → Toolchain (complete?) → .config (every option kept?) → make → bundle
//! ```
//!
//! Options are requested in the fragments below `config/`: common, the board's, hardening, the user's, the later
//! one winning. What none of them asks for is off.
//!
//! The tree is unpacked once, to the kernel cache; the objects stay there, too, in a directory for each tree, board and
//! compiler, so that an interrupted or failed build continues and a changed option costs little:
//!
//! ```text
//! CACHE/kernel/sources/SHA256/               a tarball's tree
//! CACHE/kernel/builds/TREE-BOARD-COMPILER/   objects/   build.log   lock
//! ```
//!
//! The same source and configuration give the same bytes with the same compiler: time, user, host and build number
//! are fixed, and no path gets into the result.

mod configure;
mod error;
mod fragment;
mod kconfig;
mod make;
mod pack;
mod release;
mod requested;
mod source;
mod tarball;
mod tools;
mod tree;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use release::{DEFAULT as DEFAULT_RELEASE, KERNEL_ORG, Release};
pub(crate) use source::Source;
pub(crate) use tools::Compiler;

use self::kconfig::KnownOptions;
use self::make::Make;
use self::pack::{Origin, Unfinished};
use self::tools::Toolchain;
use crate::board::Board;
use crate::cache::exclusive;
use crate::failure::Result;
use crate::files::{io_failure, measure};
use crate::kernel::source::cache::KernelCache;
use crate::shell::Shell;

/// A requested build.
#[derive(Clone, Debug)]
pub(crate) struct BuildRequest {
    /// The source.
    pub(crate) source: Source,
    /// The board.
    pub(crate) board: &'static Board,
    /// The user's fragments, in order.
    pub(crate) fragments: Vec<PathBuf>,
    /// The compiler; unset for one that is there.
    pub(crate) compiler: Option<Compiler>,
    /// Compilers at a time.
    pub(crate) jobs: NonZeroUsize,
    /// The destination of the bundle; unset for a file named after the release in the working directory.
    pub(crate) output: Option<PathBuf>,
}

/// A finished kernel.
#[derive(Clone, Debug)]
pub(crate) struct BuiltKernel {
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// The release as `uname -r` prints it.
    pub(crate) release: String,
    /// Bytes of the image.
    pub(crate) image_bytes: u64,
    /// SHA-256 of the image, in hex.
    pub(crate) image_sha256: String,
    /// Objects compiled in this run; fewer than all after an earlier run.
    pub(crate) objects: usize,
    /// The time of configuring, compiling and linking.
    pub(crate) time: Duration,
    /// The log with all output of make.
    pub(crate) log: PathBuf,
}

/// Builds the kernel of `request`.
pub(crate) fn build(request: &BuildRequest, cache: &KernelCache, shell: Shell) -> Result<BuiltKernel> {
    let target = &request.board.kernel_build;
    let mut requested = target.requested()?;
    for fragment in &request.fragments {
        requested.add_file(fragment)?;
    }
    let toolchain = Toolchain::find(target, request.compiler, &requested)?;
    let origin_compiler = toolchain.version()?;
    let tree = request.source.obtain(cache, shell)?;
    let output = match &request.output {
        Some(output) => output.clone(),
        None => PathBuf::from(format!("linux-{}-{}.tar.zst", tree.version, request.board.name)),
    };
    pack::check(&output)?;

    let name = format!("{}-{}-{}", tree.key, request.board.name, toolchain.program);
    let directory = cache.builds().join(name);
    std::fs::create_dir_all(&directory).map_err(io_failure("create", &directory))?;
    let _guard = exclusive(&directory.join("lock"), "builds this kernel", shell)?;
    let make = Make {
        tree: &tree.directory,
        objects: directory.join("objects"),
        log: directory.join("build.log"),
        target,
        toolchain: &toolchain,
        jobs: request.jobs,
    };
    make.begin()?;
    let begin = Instant::now();
    let known = KnownOptions::of_tree(&tree.directory)?;
    shell
        .status("Configuring", format!("Linux {} for {}: {}", tree.version, request.board.name, tree.origin));
    configure::configure(&make, requested, &known, shell)?;
    let objects = compile(&make, &tree.version.to_string(), &origin_compiler, shell)?;
    let time = begin.elapsed();

    shell.status("Packing", output.display().to_string());
    // Checked again: the build takes minutes, in which the path may have come to hold something else.
    let unfinished = Unfinished::new(&pack::check(&output)?)?;
    let origin =
        Origin { source: format!("Linux {}, {}", tree.version, tree.origin), compiler: origin_compiler };
    let release = pack::gather(&make, &origin, &unfinished, shell)?;
    let (image_bytes, image_sha256) = measure(&unfinished.bundle().join("vmlinuz"))?;
    unfinished.finish()?;
    Ok(BuiltKernel { bundle: output, release, image_bytes, image_sha256, objects, time, log: make.log })
}

fn compile(make: &Make<'_>, version: &str, compiler: &str, shell: Shell) -> Result<usize> {
    shell.status(
        "Compiling",
        format!("with {compiler}, {} at a time; log in {}", make.jobs, make.log.display()),
    );
    let mut goals = make.target.goals.to_vec();
    if pack::has_modules(&make.objects)? {
        goals.push("modules");
    }
    make.run(&format!("Linux {version}"), &goals, &[], shell)
}
