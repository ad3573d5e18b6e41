//! A kernel built from upstream source.

use std::path::Path;

use krazy_boot::disk::size::Bytes;
use serde::Serialize;

use crate::failure::Result;
use crate::kernel::build::{BuildRequest, build};
use crate::kernel::source::cache::KernelCache;
use crate::shell::Shell;

#[derive(Serialize)]
struct Built<'a> {
    board: &'a str,
    release: &'a str,
    bundle: &'a Path,
    /// Bytes of the kernel image.
    image_bytes: u64,
    /// SHA-256 of the kernel image.
    image_sha256: &'a str,
    /// Objects compiled in this run.
    objects: usize,
    seconds: f64,
    log: &'a Path,
}

/// Builds the requested kernel, and reports its bundle.
pub(crate) fn build_kernel(request: &BuildRequest, shell: Shell) -> Result<()> {
    let kernel = build(request, &KernelCache::of_user()?, shell)?;
    let board = request.board.name;
    shell.status(
        "Finished",
        format!(
            "{} for {board}: an image of {}, {} objects compiled in {} s",
            kernel.release,
            Bytes(kernel.image_bytes),
            kernel.objects,
            kernel.time.as_secs()
        ),
    );
    shell.note(format!("`kernel = {{ path = {:?} }}` takes it", kernel.bundle.display().to_string()));
    shell.message(
        "kernel-built",
        &Built {
            board,
            release: &kernel.release,
            bundle: &kernel.bundle,
            image_bytes: kernel.image_bytes,
            image_sha256: &kernel.image_sha256,
            objects: kernel.objects,
            seconds: kernel.time.as_secs_f64(),
            log: &kernel.log,
        },
    )
}
