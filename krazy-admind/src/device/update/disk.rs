//! The device's disk and `/boot`, as the update engine works on them.
//!
//! The disk is written through its own node at the places of partitions that nothing has mounted. What is written in
//! aligned pieces goes past the page cache (`O_DIRECT`), for the processor's sake; the rest waits there for a sync.
//! What is read back comes past the page cache, or, where a file system cannot do that, after the cache was told to
//! forget what it has.
//!
//! `/boot` is written through its file system. It is read-only most of the time: init makes it writable for the
//! first write and read-only again at each sync.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use krazy_boot::api::control::{Command, SOCKET};
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::engine::{ALIGNMENT, Aligned, Target};
use krazy_init::control::Client;
use rustix::fs::{Advice, OFlags, fadvise, syncfs};

use crate::device::system::read_manifest;

/// The disk the device runs from.
#[derive(Debug)]
pub(crate) struct Disk {
    node: File,
    /// The same without the page cache.
    direct: Option<File>,
    boot: Boot,
}

/// The file system on the first partition.
#[derive(Debug)]
struct Boot {
    folder: PathBuf,
    /// Init's socket.
    socket: PathBuf,
    /// Whether the appliance keeps it writable, so that nothing is to be done about it.
    always: bool,
    /// Whether it is writable for this.
    writable: bool,
    /// The file written last, while more may follow.
    file: Option<(String, File)>,
}

/// What a [`Disk`] is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Look,
    Write,
}

impl Disk {
    /// Opens the disk `node` of the device whose root is `root`. Whether `/boot` stays writable is what the manifest
    /// says, not how it is mounted now: somebody else may be about to change that back.
    pub(crate) fn open(root: &Path, node: &str, purpose: Purpose) -> io::Result<Self> {
        let path = root.join(node.trim_start_matches('/'));
        let writes = purpose == Purpose::Write;
        let mut options = OpenOptions::new();
        options.read(true).write(writes);
        // Some file systems that a disk image may be on do not know the flag.
        let direct = options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(&path).ok();
        // One that cannot be read must not keep a device from being repaired.
        let always = writes && read_manifest(root).is_ok_and(|manifest| manifest.boot_writable);
        let boot = Boot {
            folder: root.join("boot"),
            socket: root.join(SOCKET.trim_start_matches('/')),
            always,
            writable: always,
            file: None,
        };
        Ok(Disk { node: options.open(&path)?, direct, boot })
    }

    /// The size of the disk.
    pub(crate) fn len(&self) -> io::Result<Bytes> {
        (&self.node).seek(SeekFrom::End(0)).map(Bytes)
    }

    fn forget_cache(&self) -> io::Result<()> {
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
        self.forget_cache()?;
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
        // Nobody reads it again from here, and small machines have better use for the memory.
        self.forget_cache()
    }

    fn boot_free(&self) -> io::Result<Bytes> {
        let stat = rustix::fs::statvfs(&self.boot.folder)?;
        Ok(Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn write_boot(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()> {
        self.boot.write(name, new, bytes)
    }

    fn remove_boot(&mut self, name: &str) -> io::Result<()> {
        self.boot.remove(name)
    }

    fn sync_boot(&mut self) -> io::Result<()> {
        self.boot.sync()
    }
}

impl Boot {
    fn write(&mut self, name: &str, new: bool, bytes: &[u8]) -> io::Result<()> {
        self.open()?;
        let file = match self.file.take() {
            Some((open, file)) if !new && open == name => file,
            _ => {
                let mut options = OpenOptions::new();
                options.write(true).create(new).truncate(new).append(!new);
                options.open(self.folder.join(name))?
            }
        };
        let (_, file) = self.file.insert((name.to_owned(), file));
        file.write_all(bytes)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.file = None;
        let path = self.folder.join(name);
        if !path.try_exists()? {
            return Ok(());
        }
        self.open()?;
        std::fs::remove_file(path)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file = None;
        syncfs(File::open(&self.folder)?)?;
        self.close()
    }

    fn open(&mut self) -> io::Result<()> {
        if !self.writable {
            self.remount(true)?;
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if self.writable && !self.always {
            self.remount(false)?;
        }
        Ok(())
    }

    fn remount(&mut self, writable: bool) -> io::Result<()> {
        let order = |client: Client| {
            let mut client = client;
            client.order(Command::RemountBoot { writable })
        };
        Client::connect_to(&self.socket).and_then(order).map_err(io::Error::other)?;
        self.writable = writable;
        Ok(())
    }
}

/// Leaves `/boot` as it was found.
impl Drop for Boot {
    fn drop(&mut self) {
        self.file = None;
        if let Err(error) = self.close() {
            crate::log::write(format_args!("/boot stays writable: {error}"));
        }
    }
}

/// Whether place and memory are such that the page cache can be left out.
fn is_aligned(offset: Bytes, memory: &[u8]) -> bool {
    offset.0.is_multiple_of(ALIGNMENT as u64) && memory.as_ptr().addr().is_multiple_of(ALIGNMENT)
}

/// Reads through `direct` what is not aligned, with what is around it.
fn read_around(direct: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let skip = (offset % ALIGNMENT as u64) as usize;
    let len = (skip + buffer.len()).next_multiple_of(ALIGNMENT);
    let mut aligned = Aligned::new(len);
    let (from, mut read) = (offset - skip as u64, 0);
    // The last piece of a disk may be shorter.
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
    fn boot_is_made_writable_unless_the_appliance_keeps_it_so() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["boot", "etc/krazy"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("disk"), "").unwrap();
        let write = |manifest: &str| {
            std::fs::write(root.path().join(krazy_boot::manifest::PATH), manifest).unwrap();
            Disk::open(root.path(), "/disk", Purpose::Write).unwrap().write_boot("file", true, b"new")
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
        // There is no init to ask.
        assert!(write(&manifest(false)).is_err());
        assert!(write("not a manifest").is_err());
        write(&manifest(true)).unwrap();
    }

    #[test]
    fn every_place_is_read_past_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
        std::fs::write(root.path().join("disk"), &content).unwrap();
        let mut disk = Disk::open(root.path(), "/disk", Purpose::Write).unwrap();
        let mut without = Disk::open(root.path(), "/disk", Purpose::Look).unwrap();
        without.direct = None;
        for (offset, len) in [(0, 512), (511, 2), (4095, 4098), (99_999, 1), (512, 99_488), (5, 0)] {
            for disk in [&disk, &without] {
                let mut buffer = vec![0; len];
                disk.read_back(Bytes(offset as u64), &mut buffer).unwrap();
                assert_eq!(buffer, content[offset..offset + len], "{len} bytes from {offset}");
            }
        }
        assert!(disk.read_back(Bytes(99_999), &mut [0; 2]).is_err());
        disk.write_at(Bytes(10), b"new").unwrap();
        disk.sync().unwrap();
        let mut buffer = [0; 3];
        without.read_back(Bytes(10), &mut buffer).unwrap();
        assert_eq!(&buffer, b"new");
    }

    #[test]
    fn what_is_written_past_the_cache_and_what_is_not_lie_beside_each_other() {
        let root = tempfile::tempdir().unwrap();
        let mut expected = vec![1; 8 * ALIGNMENT];
        std::fs::write(root.path().join("disk"), &expected).unwrap();
        let mut disk = Disk::open(root.path(), "/disk", Purpose::Write).unwrap();
        let mut memory = Aligned::new(3 * ALIGNMENT);
        let places =
            [(ALIGNMENT, 0..3 * ALIGNMENT), (4 * ALIGNMENT, 0..ALIGNMENT + 700), (700, 0..8192), (512, 3..9)];
        for (value, (offset, range)) in (2..).zip(places) {
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
