//! One function for each parser: the fuzz targets in `/fuzz` call it, and a unit test, for less time. It is compiled only
//! for tests and with `--cfg fuzzing`, which `cargo fuzz` sets, and is no part of the API.

#[cfg(test)]
#[macro_use]
#[path = "../../fuzz/smoke.rs"]
mod smoke;

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use crate::config::fuzzing::metadata;
use crate::failure::Failure;
use crate::install::elf;
use crate::kernel::bundle::archive::{deb_data, decompressed, visit_tar};
use crate::kernel::index::modinfo::{Module, softdep_names};
use crate::kernel::source::debian::packages::{packages, resolve};
use crate::kernel::source::debian::release::Release;
use crate::kernel::source::debian::signature::Keyring;
use crate::kernel::source::debian::version;
use crate::ops::inspect::squashfs::Squashfs;

/// A root.
pub fn squashfs(input: &[u8]) {
    let room = input.len() as u64;
    let Ok(mut root) = Squashfs::open(Cursor::new(input), 0, room) else { return };
    let limit = 1 << 20;
    for path in ["etc/krazy/manifest.json", "a"] {
        if let Ok(content) = root.read(path, limit) {
            assert!(content.len() as u64 <= limit);
        }
    }
}

/// A Debian package (even first byte) or a tar archive (odd), each perhaps compressed.
pub fn archive(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let stream = if choice & 1 == 0 {
        deb_data(Cursor::new(rest)).and_then(decompressed)
    } else {
        decompressed(Cursor::new(rest))
    };
    let Ok(stream) = stream else { return };
    let _ = visit_tar(stream, Path::new("archive"), &mut |_path, _size, content| {
        // Reading more would only measure the decompressor.
        io::copy(&mut content.take(1 << 20), &mut io::sink()).map(drop).map_err(Failure::other)
    });
}

/// The signed part of `InRelease` (first byte 0), `Packages` (1), or two versions on two lines.
pub fn release(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    match (choice, std::str::from_utf8(rest)) {
        (0, Ok(text)) => {
            let Ok(release) = Release::parse(text, "trixie", UNIX_EPOCH) else { return };
            if let Some(file) = release.file("main/binary-amd64/Packages.xz") {
                let _ = file.by_hash();
            }
        }
        (1, _) => {
            let found = packages(rest, "linux-", "trixie").unwrap_or_default();
            let _ = resolve(&found, "linux-image-amd64", "trixie");
        }
        (_, Ok(text)) => {
            let Some((one, two)) = text.split_once('\n') else { return };
            assert_eq!(version::compare(one, two), version::compare(two, one).reverse());
        }
        _ => {}
    }
}

/// `InRelease` with its signatures, checked with Debian's keys.
pub fn signature(input: &[u8]) {
    static KEYRING: LazyLock<Option<Keyring>> = LazyLock::new(|| Keyring::debian().ok());
    let Ok(file) = std::str::from_utf8(input) else { return };
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let _ = KEYRING.as_ref().expect("Debian's keys are readable").signed_text(file, now);
}

/// A kernel module, which is an ELF file; also as an executable of an appliance.
pub fn module(input: &[u8]) {
    let _ = elf::check(input, "a", "b", "x86_64-unknown-linux-musl");
    let Ok(module) = Module::parse("kernel/a.ko", input) else { return };
    assert!(module.aliases().all(|pattern| !pattern.is_empty()));
    for softdep in &module.softdeps {
        let _ = softdep_names(softdep);
    }
}

#[cfg(test)]
smoke_tests! {
    archive: 25_000,
    metadata: 40_000,
    module: 200_000,
    release: 200_000,
    signature: 3_000,
    squashfs: 40_000,
}
