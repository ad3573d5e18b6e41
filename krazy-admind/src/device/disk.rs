//! The device's disk and `/boot`, as a target of the update engine.
//!
//! The disk is written through its block device, within partitions that are not mounted. Aligned writes bypass the page
//! cache (`O_DIRECT`), which saves a copy; others stay in the cache until the next sync. Reading back bypasses the page
//! cache too, for it must show what the disk holds. Where a file system does not support that, the cache is dropped
//! first.
//!
//! `/boot` is written through its file system. It is mounted read-only most of the time: init remounts it writable for
//! the first write, and read-only again after each sync. vfat writes its sectors without a flush of the disk's write
//! cache, so each sync of the file system is followed by one of the block device.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use krazy_boot::api::control::{Command, SOCKET};
use krazy_boot::disk::size::Bytes;
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::engine::{ALIGNMENT, Aligned, Target};
use krazy_init::control::Client;
use rustix::fs::{Advice, OFlags, fadvise, syncfs};

use super::system::read_manifest;

/// The disk that the device runs from.
#[derive(Debug)]
pub(super) struct Disk {
    node: File,
    /// The same, opened with `O_DIRECT`.
    direct: Option<File>,
    boot: Boot,
}

/// The file system on the first partition.
#[derive(Debug)]
struct Boot {
    directory: PathBuf,
    /// The control socket of init.
    socket: PathBuf,
    /// Set if the appliance keeps the file system writable, so that it is never remounted.
    always_writable: bool,
    /// Set while it is writable.
    writable: bool,
    /// The file written last, kept open for further writes.
    file: Option<(String, File)>,
}

/// The access to open a [`Disk`] with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    ReadOnly,
    ReadWrite,
}

impl Disk {
    /// Opens the block device `node` of the device in `root`.
    ///
    /// The manifest decides whether `/boot` stays writable, not the current mount: another operation may be about to
    /// remount it read-only.
    pub(super) fn open(root: &Path, node: &str, mode: Mode) -> io::Result<Self> {
        let path = root.join(node.trim_start_matches('/'));
        let writes = mode == Mode::ReadWrite;
        let mut options = OpenOptions::new();
        options.read(true).write(writes);
        // Absent if the file system of a disk image does not support the flag.
        let direct = options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(&path).ok();
        // An unreadable manifest must not prevent the repair of a device.
        let always_writable = writes && read_manifest(root).is_ok_and(|manifest| manifest.boot_writable);
        let boot = Boot {
            directory: root.join("boot"),
            socket: root.join(SOCKET.trim_start_matches('/')),
            always_writable,
            writable: always_writable,
            file: None,
        };
        Ok(Disk { node: options.open(&path)?, direct, boot })
    }

    /// Returns the size of the disk.
    pub(super) fn len(&self) -> io::Result<Bytes> {
        (&self.node).seek(SeekFrom::End(0)).map(Bytes)
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(fadvise(&self.node, 0, None, Advice::DontNeed)?)
    }
}

impl Target for Disk {
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.node.read_exact_at(buffer, offset.0)
    }

    fn read_back(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct {
            let read = match is_aligned(offset, buffer) && buffer.len().is_multiple_of(ALIGNMENT) {
                true => direct.read_exact_at(buffer, offset.0),
                false => read_around(direct, offset.0, buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        self.drop_cache()?;
        self.node.read_exact_at(buffer, offset.0)
    }

    fn write_at(&mut self, offset: Bytes, bytes: &[u8]) -> io::Result<()> {
        let (whole, rest) = match &self.direct {
            Some(direct) if is_aligned(offset, bytes) => {
                let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % ALIGNMENT);
                match direct.write_all_at(whole, offset.0) {
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => (0, bytes),
                    written => written.map(|()| (whole.len() as u64, rest))?,
                }
            }
            _ => (0, bytes),
        };
        self.node.write_all_at(rest, offset.0 + whole)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.node.sync_data()?;
        // These bytes are not read from the cache again, and small machines need the memory.
        self.drop_cache()
    }

    fn repair_boot(&mut self, slot: Slot) -> io::Result<()> {
        self.boot.repair(slot)?;
        // Init writes through the partition's device, whose cache is another one.
        self.drop_cache()
    }

    fn boot_free(&self) -> io::Result<Bytes> {
        let stat = rustix::fs::statvfs(&self.boot.directory)?;
        Ok(Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn write_boot(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()> {
        self.boot.write(name, new, bytes)
    }

    fn remove_boot(&mut self, name: &str) -> io::Result<()> {
        self.boot.remove(name)
    }

    fn sync_boot(&mut self) -> io::Result<()> {
        self.boot.write_back()?;
        // A sync of the block device ends with a flush. Without one, the files may still be in the disk's write cache when
        // the other slot's root is written.
        self.node.sync_all()?;
        self.boot.restore_read_only()
    }
}

impl Boot {
    fn write(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()> {
        self.make_writable()?;
        let file = match self.file.take() {
            Some((open, file)) if !new && open == name => file,
            _ => {
                let mut options = OpenOptions::new();
                options.write(true).create(new).truncate(new).append(!new);
                options.open(self.directory.join(name))?
            }
        };
        let (_, file) = self.file.insert((name.to_owned(), file));
        file.write_all(bytes)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.file = None;
        let path = self.directory.join(name);
        if !path.try_exists()? {
            return Ok(());
        }
        self.make_writable()?;
        std::fs::remove_file(path)
    }

    fn write_back(&mut self) -> io::Result<()> {
        self.file = None;
        Ok(syncfs(File::open(&self.directory)?)?)
    }

    fn repair(&mut self, slot: Slot) -> io::Result<()> {
        self.file = None;
        self.order(Command::RepairBoot { slot })
    }

    fn make_writable(&mut self) -> io::Result<()> {
        if !self.writable {
            self.remount(true)?;
        }
        Ok(())
    }

    fn restore_read_only(&mut self) -> io::Result<()> {
        if self.writable && !self.always_writable {
            self.remount(false)?;
        }
        Ok(())
    }

    fn remount(&mut self, writable: bool) -> io::Result<()> {
        self.order(Command::RemountBoot { writable })?;
        self.writable = writable;
        Ok(())
    }

    fn order(&self, command: Command) -> io::Result<()> {
        Client::connect_to(&self.socket)
            .and_then(|mut client| client.order(command))
            .map_err(io::Error::other)
    }
}

/// Remounts `/boot` as it was, also after a failed or abandoned update.
impl Drop for Boot {
    fn drop(&mut self) {
        self.file = None;
        if let Err(error) = self.restore_read_only() {
            crate::log::write(format_args!("failed to remount /boot read-only: {error}"));
        }
    }
}

/// Returns true if `O_DIRECT` accepts this offset and memory.
fn is_aligned(offset: Bytes, memory: &[u8]) -> bool {
    offset.0.is_multiple_of(ALIGNMENT as u64) && memory.as_ptr().addr().is_multiple_of(ALIGNMENT)
}

/// Reads an unaligned range through `direct` by reading the aligned range around it.
fn read_around(direct: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let skip = (offset % ALIGNMENT as u64) as usize;
    let len = (skip + buffer.len()).next_multiple_of(ALIGNMENT);
    let mut aligned = Aligned::new(len);
    let (from, mut read) = (offset - skip as u64, 0);
    // At the end of a disk, the aligned range may be longer than the disk.
    while read < skip + buffer.len() {
        match direct.read_at(&mut aligned[read..], from + read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => read += len,
        }
    }
    buffer.copy_from_slice(&aligned[skip..skip + buffer.len()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_is_remounted_unless_the_appliance_keeps_it_writable() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["boot", "etc/krazy"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("disk"), "").unwrap();
        let write = |manifest: &str| {
            std::fs::write(root.path().join(krazy_boot::manifest::PATH), manifest).unwrap();
            Disk::open(root.path(), "/disk", Mode::ReadWrite).unwrap().write_boot("file", true, b"new")
        };
        let program =
            serde_json::json!({ "crate": "x", "version": "1.0.0", "source": "path", "sha256": "00" });
        let manifest = |boot_writable: bool| {
            serde_json::json!({
                "format": krazy_boot::manifest::FORMAT, "name": "x", "version": "1.0.0", "board": "x86_64",
                "build_id": "11", "hostname": "x", "kernel": { "release": "6.12", "origin": "x", "sha256": "22" },
                "init": program, "services": [], "boot_writable": boot_writable,
            })
            .to_string()
        };
        // No init listens, so remounting fails.
        assert!(write(&manifest(false)).is_err());
        assert!(write("not a manifest").is_err());
        write(&manifest(true)).unwrap();
    }

    #[test]
    fn unaligned_ranges_are_read_past_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
        std::fs::write(root.path().join("disk"), &content).unwrap();
        let mut disk = Disk::open(root.path(), "/disk", Mode::ReadWrite).unwrap();
        let mut cached = Disk::open(root.path(), "/disk", Mode::ReadOnly).unwrap();
        cached.direct = None;
        for (offset, len) in [(0, 512), (511, 2), (4095, 4098), (99_999, 1), (512, 99_488), (5, 0)] {
            for disk in [&disk, &cached] {
                let mut buffer = vec![0; len];
                disk.read_back(Bytes(offset as u64), &mut buffer).unwrap();
                assert_eq!(buffer, content[offset..offset + len], "{len} bytes from {offset}");
            }
        }
        assert!(disk.read_back(Bytes(99_999), &mut [0; 2]).is_err());
        disk.write_at(Bytes(10), b"new").unwrap();
        disk.sync().unwrap();
        let mut buffer = [0; 3];
        cached.read_back(Bytes(10), &mut buffer).unwrap();
        assert_eq!(&buffer, b"new");
    }

    #[test]
    fn direct_and_cached_writes_meet_without_gap_or_overlap() {
        let root = tempfile::tempdir().unwrap();
        let mut expected = vec![1; 8 * ALIGNMENT];
        std::fs::write(root.path().join("disk"), &expected).unwrap();
        let mut disk = Disk::open(root.path(), "/disk", Mode::ReadWrite).unwrap();
        let mut memory = Aligned::new(3 * ALIGNMENT);
        let writes =
            [(ALIGNMENT, 0..3 * ALIGNMENT), (4 * ALIGNMENT, 0..ALIGNMENT + 700), (700, 0..8192), (512, 3..9)];
        for (value, (offset, range)) in (2..).zip(writes) {
            memory.fill(value);
            disk.write_at(Bytes(offset as u64), &memory[range.clone()]).unwrap();
            expected[offset..offset + range.len()].fill(value);
        }
        disk.sync().unwrap();
        let mut found = Aligned::new(expected.len());
        disk.read_back(Bytes(0), &mut found).unwrap();
        assert!(*found == *expected);
    }
}
