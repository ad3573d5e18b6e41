//! Writes an image to a whole disk so that either all of it is there, verified by reading it back, or the disk does not
//! boot.
//!
//! Only regions that hold data are sent. Holes are zeroed all the same: the journal and the inode tables of a fresh
//! ext4 are holes, and remains of an earlier image could be taken for them.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl;

use super::disk::{Disk, System};
use super::sparse::{CHUNK, Region, chunks, regions};
use super::write_failure;
use crate::failure::{Exit, Explain, Failure, Result};
use crate::interrupt;
use crate::shell::Shell;

/// Written bytes between two waits for the disk, so that the bar shows the disk's rate and not the memory's.
const SYNC_INTERVAL: u64 = 32 << 20;

/// A GPT has a copy of itself in the last 33 sectors of a disk. It is erased, because tools restore a GPT from it.
const BACKUP_GPT_BYTES: u64 = 33 * SECTOR_SIZE;

/// O_DIRECT needs memory aligned to the disk's sectors; a page is enough for all disks.
const ALIGNMENT: usize = 4096;

/// A disk that was not written, or not kept.
#[derive(Debug, thiserror::Error)]
enum FlashError {
    #[error("an image of {0} bytes is not a whole number of sectors")]
    PartialSector(u64),
    #[error("`{}` is another disk than at the beginning", .0.display())]
    Changed(PathBuf),
    #[error("`{}` is in use", .0.display())]
    Busy(PathBuf),
    #[error("`{}` may not be written by this user", .0.display())]
    NotPermitted(PathBuf),
    #[error("failed to open `{}`: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("the disk did not keep what was written: sector {sector} differs")]
    Differs { sector: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Failure),
}

impl Explain for FlashError {
    fn exit(&self) -> Exit {
        match self {
            FlashError::Interrupted(failure) => failure.exit(),
            _ => Exit::Image,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            FlashError::Busy(_) => "something holds it: a mount, RAID, LVM or another program",
            FlashError::NotPermitted(_) => "run this command as root, or join the group `disk`",
            FlashError::Differs { .. } => {
                "the medium is worn out, or smaller than it claims; try another one"
            }
            _ => return None,
        };
        Some(help.to_owned())
    }
}

/// Overwrites `disk` with the file at `image` and verifies it.
pub(crate) fn flash(system: &System, image: &Path, disk: &Disk, shell: Shell) -> Result<()> {
    let source = File::open(image).with_context(|| format!("failed to open `{}`", image.display()))?;
    let len = source.metadata().with_context(|| format!("failed to inspect `{}`", image.display()))?.len();
    if !len.is_multiple_of(SECTOR_SIZE) || len == 0 {
        return Err(FlashError::PartialSector(len).into());
    }
    disk.check_fits(Bytes(len))?;
    // Since the owner's consent, an hour of compiling may have passed.
    if Disk::examine(system, &disk.path)? != *disk {
        return Err(FlashError::Changed(disk.path.clone()).into());
    }
    disk.check_unused(system)?;
    let target = Target::open(disk)?;
    let failed = |error: FlashError| match error {
        FlashError::Io(error) => write_failure(&disk.path, &error),
        error => error.into(),
    };
    let regions = regions(&source).with_context(|| format!("failed to read `{}`", image.display()))?;

    let begin = |name| shell.bytes_bar(name, len);
    write_and_verify(&target, &source, &regions, begin)
        .inspect_err(|_| {
            shell.warn(format!("`{}` is incomplete; it does not boot", disk.path.display()));
        })
        .map_err(failed)?;
    if let Err(error) = target.reread_partitions() {
        let name = disk.path.display();
        shell.warn(format!("`{name}` is written, but the kernel keeps its old partition table: {error}"));
        shell.note("unplug the disk and plug it in again before you mount it");
    }
    Ok(())
}

/// Makes the disk bootable only after everything else was read back. `begin` shows the progress of a step.
fn write_and_verify(
    target: &Target,
    source: &File,
    regions: &[Region],
    begin: impl Fn(&'static str) -> ProgressBar,
) -> Result<(), FlashError> {
    let bar = begin("Writing");
    target.write(source, regions, &bar)?;
    bar.finish_and_clear();
    let bar = begin("Verifying");
    let difference = target.compare(source, regions, &bar)?;
    bar.finish_and_clear();
    let difference = match difference {
        None if target.complete(source)? => return Ok(()),
        None => 0,
        Some(sector) => sector,
    };
    Err(FlashError::Differs { sector: difference })
}

/// A disk opened exclusively.
struct Target {
    /// Buffered, exclusive.
    device: File,
    /// Reads from the medium, past the page cache.
    direct: File,
    size: u64,
    offloads_zeros: bool,
}

impl Target {
    /// Opens `disk` exclusively: the kernel refuses while anything else claims it or one of its partitions.
    fn open(disk: &Disk) -> Result<Self> {
        let path = disk.path.display();
        let exclusive = OFlags::EXCL.bits() as i32;
        let device = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(&disk.path);
        let device = device.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => FlashError::Busy(disk.path.clone()),
            io::ErrorKind::PermissionDenied => FlashError::NotPermitted(disk.path.clone()),
            _ => FlashError::Open { path: disk.path.clone(), error },
        })?;
        let direct =
            OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(&disk.path);
        let direct = direct.with_context(|| format!("failed to open `{path}` for reading back"))?;
        let size = rustix::fs::seek(&device, rustix::fs::SeekFrom::End(0))
            .with_context(|| format!("failed to find the size of `{path}`"))?;
        Ok(Target { device, direct, size, offloads_zeros: disk.offloads_zeros })
    }

    /// Writes everything but the first sector, which is zeroed: the disk has no partitions and does not boot.
    fn write(&self, source: &File, regions: &[Region], bar: &ProgressBar) -> Result<(), FlashError> {
        self.device.write_all_at(&[0; SECTOR_SIZE as usize], 0)?;
        self.device.sync_data()?;
        let mut buffer = AlignedBuffer::new();
        let mut unsynced = 0;
        let mut end = 0;
        for region in regions {
            end = region.range.end;
            for chunk in chunks(region.range.start.max(SECTOR_SIZE)..end) {
                interrupt::check()?;
                let len = chunk.end - chunk.start;
                if region.data {
                    let bytes = buffer.slice(len);
                    source.read_exact_at(bytes, chunk.start)?;
                    self.device.write_all_at(bytes, chunk.start)?;
                } else {
                    self.zero(chunk, &mut buffer)?;
                }
                bar.inc(len);
                unsynced += len;
                if unsynced >= SYNC_INTERVAL {
                    self.device.sync_data()?;
                    unsynced = 0;
                }
            }
        }
        let backup = self.size.saturating_sub(BACKUP_GPT_BYTES).max(end)..self.size;
        if !backup.is_empty() {
            self.zero(backup, &mut buffer)?;
        }
        Ok(self.device.sync_all()?)
    }

    /// Writes the first sector. Returns true if the medium kept it; otherwise the sector is zeroed again.
    fn complete(&self, source: &File) -> io::Result<bool> {
        let mut first = [0; SECTOR_SIZE as usize];
        source.read_exact_at(&mut first, 0)?;
        self.device.write_all_at(&first, 0)?;
        self.device.sync_all()?;
        let mut buffer = AlignedBuffer::new();
        let found = buffer.slice(ALIGNMENT as u64);
        self.direct.read_exact_at(found, 0)?;
        let kept = found[..first.len()] == first;
        if !kept {
            self.device.write_all_at(&[0; SECTOR_SIZE as usize], 0)?;
            self.device.sync_all()?;
        }
        Ok(kept)
    }

    /// Makes `range`, at most [`CHUNK`] bytes, read as zeros. A medium that would have to be sent the zeros is
    /// asked first whether it has them already: cards read several times faster than they write.
    fn zero(&self, range: Range<u64>, buffer: &mut AlignedBuffer) -> io::Result<()> {
        let len = range.end - range.start;
        if !self.offloads_zeros {
            let bytes = buffer.slice(len);
            self.direct.read_exact_at(bytes, range.start)?;
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
        }
        match zero_out(&self.device, &range) {
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {
                let bytes = buffer.slice(len);
                bytes.fill(0);
                self.device.write_all_at(bytes, range.start)
            }
            result => Ok(result?),
        }
    }

    /// Returns the first sector that differs from `source`; sector 0 must be zero.
    fn compare(
        &self,
        source: &File,
        regions: &[Region],
        bar: &ProgressBar,
    ) -> Result<Option<u64>, FlashError> {
        let mut found = AlignedBuffer::new();
        let mut expected = vec![0; CHUNK];
        for region in regions {
            expected.fill(0);
            for chunk in chunks(region.range.clone()) {
                interrupt::check()?;
                let len = chunk.end - chunk.start;
                let found = found.slice(len);
                let expected = &mut expected[..len as usize];
                self.direct.read_exact_at(found, chunk.start)?;
                if region.data {
                    source.read_exact_at(expected, chunk.start)?;
                }
                if chunk.start == 0 {
                    expected[..SECTOR_SIZE as usize].fill(0);
                }
                if let Some(at) = found.iter().zip(&*expected).position(|(a, b)| a != b) {
                    return Ok(Some((chunk.start + at as u64) / SECTOR_SIZE));
                }
                bar.inc(len);
            }
        }
        Ok(None)
    }

    /// Has the kernel read the new partition table, if it reads one on this disk at all.
    fn reread_partitions(&self) -> Result<(), Errno> {
        /// `_IO(0x12, 95)` in Linux `include/uapi/linux/fs.h`.
        const BLKRRPART: ioctl::Opcode = ioctl::opcode::none(0x12, 95);
        // SAFETY: BLKRRPART takes no argument and touches no memory of this process.
        match unsafe { ioctl::ioctl(self.device.as_fd(), ioctl::NoArg::<BLKRRPART>::new()) } {
            // Disks without partitions, such as loop devices made without `--partscan`.
            Err(Errno::INVAL) => Ok(()),
            result => result,
        }
    }
}

/// Has the kernel zero `range` in the way that is best for the disk, and drop its cached pages.
fn zero_out(device: &File, range: &Range<u64>) -> Result<(), Errno> {
    /// `_IO(0x12, 127)` in Linux `include/uapi/linux/fs.h`; its argument is `uint64_t range[2]`: start, length.
    const BLKZEROOUT: ioctl::Opcode = ioctl::opcode::none(0x12, 127);
    let argument = [range.start, range.end - range.start];
    // SAFETY: BLKZEROOUT reads two 64-bit numbers through its argument and writes none.
    unsafe { ioctl::ioctl(device.as_fd(), ioctl::Setter::<BLKZEROOUT, [u64; 2]>::new(argument)) }
}

/// [`CHUNK`] bytes at an address that O_DIRECT accepts.
struct AlignedBuffer {
    memory: Vec<u8>,
    offset: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGNMENT];
        let address = memory.as_ptr().addr();
        AlignedBuffer { offset: address.next_multiple_of(ALIGNMENT) - address, memory }
    }

    /// The first `len` bytes, at most [`CHUNK`].
    fn slice(&mut self, len: u64) -> &mut [u8] {
        &mut self.memory[self.offset..][..len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target in a file instead of a disk: everything but the exclusive open and the partition table.
    fn target(size: u64, junk: u8) -> (tempfile::TempDir, Target) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        std::fs::write(&path, vec![junk; size as usize]).unwrap();
        let device = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let direct = File::open(&path).unwrap();
        (directory, Target { device, direct, size, offloads_zeros: false })
    }

    fn image() -> File {
        let image = tempfile::tempfile().unwrap();
        image.set_len(3 << 20).unwrap();
        image.write_all_at(&[1; 512], 0).unwrap();
        image.write_all_at(&[2; 5000], 2 << 20).unwrap();
        image
    }

    fn bytes(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn old_content_and_a_backup_gpt_are_erased() {
        let (_directory, target) = target(4 << 20, 0xee);
        let image = image();
        let regions = regions(&image).unwrap();
        write_and_verify(&target, &image, &regions, |_| ProgressBar::hidden()).unwrap();
        let disk = bytes(&target.device);
        assert!(disk[..3 << 20] == bytes(&image)[..]);
        assert!(disk[3 << 20..(4 << 20) - 33 * 512].iter().all(|byte| *byte == 0xee));
        assert!(disk[(4 << 20) - 33 * 512..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn medium_that_loses_data_is_detected() {
        let (_directory, target) = target(3 << 20, 0);
        let image = image();
        let regions = regions(&image).unwrap();
        target.write(&image, &regions, &ProgressBar::hidden()).unwrap();
        for at in [(2 << 20) + 600, 1 << 20] {
            target.device.write_all_at(b"x", at).unwrap();
            let difference = target.compare(&image, &regions, &ProgressBar::hidden()).unwrap();
            assert_eq!(difference, Some(at / 512));
        }
    }

    #[test]
    fn disk_that_fails_its_verification_does_not_boot() {
        let (_directory, target) = target(3 << 20, 0xee);
        let image = image();
        let regions = regions(&image).unwrap();
        let error = write_and_verify(&target, &image, &regions, |step| {
            if step == "Verifying" {
                target.device.write_all_at(b"x", 2 << 20).unwrap();
            }
            ProgressBar::hidden()
        });
        let text = "the disk did not keep what was written: sector 4096 differs";
        assert_eq!(error.unwrap_err().to_string(), text);
        assert_eq!(bytes(&target.device)[..512], [0; 512]);
    }

    #[test]
    fn interrupted_disk_does_not_boot() {
        let (_directory, target) = target(3 << 20, 0xee);
        let image = image();
        // The second region claims to reach beyond the image, so reading it fails halfway.
        let regions = [Region { range: 0..4096, data: true }, Region { range: 4096..8 << 20, data: true }];
        target.write(&image, &regions, &ProgressBar::hidden()).unwrap_err();
        assert_eq!(bytes(&target.device)[..512], [0; 512]);
    }

    #[test]
    fn buffers_are_aligned() {
        let mut buffer = AlignedBuffer::new();
        assert!(buffer.slice(CHUNK as u64).as_ptr().addr().is_multiple_of(ALIGNMENT));
        assert_eq!(buffer.slice(512).len(), 512);
    }
}
