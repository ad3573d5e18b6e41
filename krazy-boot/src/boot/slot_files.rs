//! A slot's files on `/boot`, for a loader that reads files: kernel, initramfs and command line, compared with the record of
//! the slot's content.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::boot::cmdline::{CommandLine, CommandLineError, MAX_FILE};
use crate::boot::start::{Check, Failed};
use crate::digest::sha256;
use crate::disk::size::Bytes;
use crate::disk::slot::{Slot, boot_file};
use crate::update::bundle::{BundleManifest, MAX_JSON, PartKind};

/// The files and the line that the kernel of a slot is started with.
#[derive(Debug)]
pub struct SlotFiles {
    /// The kernel image.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initramfs: Vec<u8>,
    /// The command line.
    pub command_line: CommandLine,
}

/// Limit of a kernel and of an initramfs. A damaged directory may claim anything.
const MAX_LOADED: usize = 1 << 30;

/// A failure to read a slot's files.
#[derive(Debug, thiserror::Error)]
pub enum SlotFilesError {
    /// A file is missing or cannot be read.
    #[error("its {0} is missing on /boot or cannot be read ({1})")]
    Read(&'static str, String),
    /// The command line cannot be used.
    #[error("its command line cannot be used: {0}")]
    CommandLine(#[from] CommandLineError),
    /// A file differs from the record.
    #[error("its {0} is damaged: SHA-256 or length is not that of the update")]
    Damaged(PartKind),
}

impl SlotFiles {
    /// Reads the files of `slot` by `read`, which takes a name on `/boot` and the longest length. `failed` is the slot that
    /// should have started instead; the command line tells the first stage about it.
    ///
    /// The files are compared with the slot's record if it has a valid one. One that raw writes or the image of an earlier
    /// version have filled has none.
    pub fn read<E: ToString>(
        slot: Slot,
        check: Check,
        failed: Option<&Failed>,
        mut read: impl FnMut(&str, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Self, SlotFilesError> {
        let mut file = |what, name, limit| {
            read(&slot.boot_file(name), limit).map_err(|error| SlotFilesError::Read(what, error.to_string()))
        };
        let line = file("command line", boot_file::CMDLINE, MAX_FILE.0 as usize)?;
        let line = CommandLine::parse(&String::from_utf8_lossy(&line))?;
        let record = file("record", boot_file::RECORD, MAX_JSON).ok();
        let record = record.and_then(|json| BundleManifest::from_json(&json).ok());
        let record = record.filter(|_| check == Check::Record);
        let kernel = file("kernel", boot_file::KERNEL, MAX_LOADED)?;
        let initramfs = file("initramfs", boot_file::INITRAMFS, MAX_LOADED)?;
        let parts = [(PartKind::Kernel, &kernel), (PartKind::Initramfs, &initramfs)];
        for (kind, content) in parts {
            let part = record.as_ref().and_then(|record| record.part(&kind));
            let is_damaged = part.is_some_and(|part| {
                part.size != Bytes(content.len() as u64) || part.sha256 != sha256(content)
            });
            if is_damaged {
                return Err(SlotFilesError::Damaged(kind));
            }
        }
        let command_line = match failed {
            Some(Failed { reason, .. }) => line.after_failure(reason),
            None => line,
        };
        Ok(SlotFiles { kernel, initramfs, command_line })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::update::bundle::{FORMAT, PROTOCOL, Part};

    type Files = HashMap<String, Vec<u8>>;

    fn record(kernel: &[u8], initramfs: &[u8]) -> Vec<u8> {
        let part =
            |kind, content: &[u8]| Part { kind, size: Bytes(content.len() as u64), sha256: sha256(content) };
        let manifest = BundleManifest {
            format: FORMAT,
            appliance: "a".into(),
            board: "x86_64".into(),
            build_id: "b".into(),
            version: "1.0.0".into(),
            protocol: PROTOCOL,
            cmdline: Vec::new(),
            instructions: Vec::new(),
            parts: vec![
                part(PartKind::Kernel, kernel),
                part(PartKind::Initramfs, initramfs),
                part(PartKind::Root, b"root"),
            ],
        };
        manifest.to_json().unwrap()
    }

    fn files() -> Files {
        let own: [(&str, &[u8]); 4] = [
            ("b-cmdline.txt", b"root=PARTUUID=1a2b3c4d-03 krazy.slot=b quiet\r\n"),
            ("b-vmlinuz", b"kernel"),
            ("b-initramfs", b"initramfs"),
            ("b-slot.json", &record(b"kernel", b"initramfs")),
        ];
        own.into_iter().map(|(name, content)| (name.to_owned(), content.to_vec())).collect()
    }

    fn read(files: &Files, failed: Option<&Failed>) -> Result<SlotFiles, String> {
        read_with(files, Check::Record, failed)
    }

    fn read_with(files: &Files, check: Check, failed: Option<&Failed>) -> Result<SlotFiles, String> {
        let find = |name: &str, limit| {
            let content = files.get(name).ok_or("NOT_FOUND")?;
            if content.len() > limit { Err("BAD_BUFFER_SIZE") } else { Ok(content.clone()) }
        };
        SlotFiles::read(Slot::B, check, failed, find).map_err(|error| error.to_string())
    }

    #[test]
    fn complete_slot_is_read_with_the_reason_of_the_other_one() {
        let plain = read(&files(), None).unwrap();
        assert_eq!(plain.command_line.as_str(), "root=PARTUUID=1a2b3c4d-03 krazy.slot=b quiet");
        assert_eq!((&plain.kernel[..], &plain.initramfs[..]), (&b"kernel"[..], &b"initramfs"[..]));
        let failed = Failed { slot: Slot::A, reason: "its \"kernel\"\nis damaged".into(), differs: true };
        let line = read(&files(), Some(&failed)).unwrap().command_line;
        assert_eq!(line.unstarted(), Some("its 'kernel' is damaged"));
        assert_eq!(line.slot(), Some(Slot::B));
    }

    #[test]
    fn damaged_and_missing_files_are_named() {
        let with = |name: &str, content: Option<&[u8]>| {
            let mut files = files();
            match content {
                Some(content) => files.insert(name.to_owned(), content.to_vec()),
                None => files.remove(name),
            };
            read(&files, None).map(drop)
        };
        let damaged = "is damaged: SHA-256 or length is not that of the update";
        assert_eq!(with("b-vmlinuz", Some(b"another kernel")), Err(format!("its kernel {damaged}")));
        assert_eq!(with("b-initramfs", Some(b"")), Err(format!("its initramfs {damaged}")));
        let missing = "is missing on /boot or cannot be read (NOT_FOUND)";
        assert_eq!(with("b-vmlinuz", None), Err(format!("its kernel {missing}")));
        assert_eq!(with("b-cmdline.txt", None), Err(format!("its command line {missing}")));
        let line = "its command line cannot be used: the kernel command line contains '\\u{1}'; only printable ASCII works";
        assert_eq!(with("b-cmdline.txt", Some(b"\x01")), Err(line.to_owned()));
        let long = "is missing on /boot or cannot be read (BAD_BUFFER_SIZE)";
        assert_eq!(with("b-cmdline.txt", Some(&[b'x'; 5000])), Err(format!("its command line {long}")));
        let mut changed = files();
        changed.insert("b-vmlinuz".into(), b"another kernel".to_vec());
        assert_eq!(read_with(&changed, Check::Nothing, None).unwrap().kernel, b"another kernel");
        // The image of an earlier version has no record, and a damaged one says nothing about the files.
        assert_eq!(with("b-slot.json", None), Ok(()));
        assert_eq!(with("b-slot.json", Some(b"{")), Ok(()));
    }
}
