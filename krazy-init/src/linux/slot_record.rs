//! The record of the running slot's files on `/boot`, where files may be changed by hand.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use krazy_boot::digest::sha256_of;
use krazy_boot::disk::slot::{Slot, boot_file};

/// Returns true if `slot` has a record on the file system at `boot` that lacks the hash of its kernel or initramfs.
pub(crate) fn is_stale(boot: &Path, slot: Slot) -> io::Result<bool> {
    let record = match fs::read_to_string(boot.join(slot.boot_file(boot_file::RECORD))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        record => record?,
    };
    for name in [boot_file::KERNEL, boot_file::INITRAMFS] {
        let hash = sha256_of(&mut File::open(boot.join(slot.boot_file(name)))?)?;
        // A whole parser would be more code than the rest, and a hash is nowhere by accident.
        if !record.contains(&hash.to_string()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the record of `slot` and its signature.
pub(crate) fn remove(boot: &Path, slot: Slot) -> io::Result<()> {
    for name in [boot_file::SIGNATURE, boot_file::RECORD] {
        match fs::remove_file(boot.join(slot.boot_file(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use krazy_boot::digest::sha256;

    #[test]
    fn record_is_stale_once_a_file_has_changed() {
        let boot = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| fs::write(boot.path().join(name), content).unwrap();
        let is_stale = || is_stale(boot.path(), Slot::B).unwrap();
        write("b-vmlinuz", "kernel");
        write("b-initramfs", "initramfs");
        assert!(!is_stale(), "no record");
        let record = format!("{{\"a\":\"{}\",\"b\":\"{}\"}}", sha256(b"kernel"), sha256(b"initramfs"));
        write("b-slot.json", &record);
        write("b-slot.sig", "");
        assert!(!is_stale());
        write("b-initramfs", "another");
        assert!(is_stale());
        remove(boot.path(), Slot::B).unwrap();
        assert!(!is_stale() && !boot.path().join("b-slot.sig").exists());
        remove(boot.path(), Slot::B).unwrap();
    }
}
