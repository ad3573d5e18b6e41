//! One function for each parser: the fuzz targets in `/fuzz` call it, and a unit test, for less time. It is compiled only
//! for tests and with `--cfg fuzzing`, which `cargo fuzz` sets, and is no part of the API.
//!
//! Each function panics if a parser does, and if an accepted value does not survive writing and reading it.

mod disk;
#[cfg(test)]
#[macro_use]
#[path = "../../../fuzz/smoke.rs"]
mod smoke;

use std::io::{self, Cursor};

pub use self::disk::disk;

use crate::api::control::{Request, Response};
use crate::api::credentials::{TokenFile, UpdateKey};
use crate::api::route::Route;
use crate::boot::cmdline::CommandLine;
use crate::boot::config_txt;
use crate::boot::device_tree::{self, Edit};
use crate::boot::slot_area::{Bank, BootFiles, SlotArea};
use crate::boot::uefi_loader;
use crate::disk::boot_fat::BootFat;
use crate::disk::layout::Extent;
use crate::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use crate::disk::slot::Slot;
use crate::manifest::Manifest;
use crate::update::bundle::{BundleManifest, Head};
use crate::update::delta::{Decoder, DeltaError, Step};
use crate::update::history::History;

const SECTOR: usize = SECTOR_SIZE as usize;

/// Limit of the output of a stream: a part may have 4 TiB of zeros, which are not worth the time.
const MAX_OUTPUT: u64 = 8 << 20;

/// A bundle: its head, whatever its signature is, and then its streams.
pub fn bundle(input: &[u8]) {
    let mut rest = input;
    let Ok(head) = Head::read(&mut rest, |_, _| true) else { return };
    if let Ok(bytes) = Head::to_bytes(&head.signed, &head.transport) {
        assert_eq!(Head::read(&mut &bytes[..], |_, _| true).ok().as_ref(), Some(&head));
    }
    for (part, transport) in head.manifest.parts.iter().zip(&head.transport.parts) {
        let len = usize::try_from(transport.stored.0).unwrap_or(usize::MAX).min(rest.len());
        let (stream, after) = rest.split_at(len);
        rest = after;
        let base = Bytes(transport.base.map_or(0, |_| 1 << 20));
        let _ = decoded(part.size, base, stream, stream.len().max(1));
    }
}

/// The stream of a part, as zstd (even first byte) or as the operations inside (odd), in pieces of one length. The
/// pieces must not change the result.
pub fn delta(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let framed;
    let stream = if choice & 1 == 0 {
        rest
    } else {
        // A frame with a window of 128 KiB and one stored block (RFC 8878, section 3.1.1).
        let rest = &rest[..rest.len().min(64 << 10)];
        let block = ((rest.len() as u32) << 3 | 1).to_le_bytes();
        framed = [b"\x28\xb5\x2f\xfd\x00\x38", &block[..3], rest].concat();
        &framed
    };
    let (size, base) = (Bytes(1 << 20), Bytes(1 << 16));
    let whole = decoded(size, base, stream, stream.len().max(1));
    let pieces = decoded(size, base, stream, usize::from(choice >> 1).max(1));
    assert_eq!(whole.ok(), pieces.ok());
}

/// Returns length and checksum of the output.
fn decoded(size: Bytes, base: Bytes, stream: &[u8], piece: usize) -> Result<(u64, u32), DeltaError> {
    let (mut len, mut checksum) = (0, crc32fast::Hasher::new());
    let mut decoder = Decoder::new(size, base);
    for piece in stream.chunks(piece) {
        decoder.feed(piece, &mut |step| {
            match step {
                Step::Data(bytes) => {
                    len += bytes.len() as u64;
                    checksum.update(bytes);
                }
                Step::Copy { offset, len: copied } => {
                    assert!(offset + copied <= base.0);
                    len += copied;
                }
                Step::Zero(zeros) => len += zeros,
            }
            assert!(len <= size.0, "more than the size of the part");
            if len > MAX_OUTPUT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        })?;
    }
    decoder.finish()?;
    assert_eq!(len, size.0);
    Ok((len, checksum.finalize()))
}

/// The file system of `/boot`, in a partition of 64 KiB, and the boot files in it.
pub fn fat(input: &[u8]) {
    const LEN: usize = 64 << 10;
    let mut disk = input.to_vec();
    disk.resize(LEN, 0);
    let partition = Extent { start: Sectors(2048), len: Sectors((LEN / SECTOR) as u32) };
    let Ok(mut fat) = BootFat::open(Cursor::new(disk), Bytes(0), partition) else { return };
    let files = fat.files().unwrap_or_default();
    for file in files.iter().take(8) {
        for extent in fat.extents(file).unwrap_or_default() {
            assert!(extent.start >= partition.start && extent.end() <= partition.end());
        }
        let limit = Bytes(1 << 20);
        if let Ok(content) = fat.read(file, limit) {
            assert_eq!(content.len() as u64, file.size.0);
        }
        assert!(fat.find(&file.name).is_ok());
    }
    let _ = config_txt::read(&mut fat);
    let _ = uefi_loader::installed_version(&mut fat);
    if let Ok(files) = BootFiles::read(&mut fat, Slot::A) {
        let _ = SlotArea::new(Slot::A, Bank::First, &files).map(|area| area.writes());
    }
}

/// Texts that are files of a device or a bundle. The first byte selects one.
pub fn manifest(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    match choice {
        0 => {
            if let Ok(manifest) = Manifest::from_json(rest) {
                assert!(Manifest::from_json(&manifest.to_json()).is_ok_and(|read| read == manifest));
            }
        }
        1 => {
            if let Ok(manifest) = BundleManifest::from_json(rest) {
                let json = manifest.to_json().unwrap_or_default();
                assert_eq!(BundleManifest::from_json(&json).ok(), Some(manifest));
            }
        }
        2 => drop(History::from_json(rest)),
        3 => {
            let tokens = TokenFile::from_json(rest).ok();
            if let Some(json) = tokens.as_ref().and_then(|tokens| tokens.to_json().ok()) {
                assert!(TokenFile::from_json(&json).is_ok());
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let _ = UpdateKey::parse_file(text);
            let Ok(line) = CommandLine::parse(text) else { return };
            let _ = line.launcher();
            if let Some(moved) = line.moved_to(Slot::B) {
                assert_eq!(CommandLine::parse(moved.as_str()).ok(), Some(moved));
            }
        }
    }
}

/// A device tree, edited as on a Raspberry Pi.
pub fn device_tree(input: &[u8]) {
    let mut tree = input.to_vec();
    let edits = [
        Edit::RemoveProperty("/chosen", "linux,initrd-start"),
        Edit::SetString("/chosen", "bootargs", "a=b"),
        Edit::RemoveNode("/soc/mmc"),
    ];
    let _ = device_tree::edit(&mut tree, &edits);
    if let Ok(inserted) = device_tree::insert(&tree, "/chosen", &[("linux,initrd-end", &[0; 8])]) {
        assert!(inserted.len() <= 3 * input.len() + 256);
        assert!(device_tree::insert(&inserted, "/chosen", &[]).is_ok());
    }
}

/// A line of the control protocol, as init (even first byte) or as its client (odd).
pub fn control(input: &[u8]) {
    let Some((choice, line)) = input.split_first() else { return };
    if choice & 1 == 0 {
        if let Ok(request) = Request::from_line(line) {
            let _ = request.command.timeout();
            let written = request.to_line();
            assert_eq!(Request::from_line(&written).ok(), Some(request));
        }
    } else if let Ok(response) = serde_json::from_slice::<Response>(line) {
        assert_eq!(serde_json::from_slice(&response.to_line()).ok(), Some(response));
    }
}

/// A request of the API: `METHOD /path?query`.
pub fn route(input: &[u8]) {
    let Some((method, target)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once(' ')) else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(endpoint) = Route::find(method, path).and_then(|route| route.endpoint(query)) else { return };
    let text = endpoint.to_string();
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let again = Route::find(method, path).and_then(|route| route.endpoint(query));
    assert_eq!(again.ok(), Some(endpoint));
}

#[cfg(test)]
smoke_tests! {
    bundle: 200_000,
    control: 200_000,
    delta: 200_000,
    device_tree: 200_000,
    disk: 30_000,
    fat: 5_000,
    manifest: 100_000,
    route: 200_000,
}
