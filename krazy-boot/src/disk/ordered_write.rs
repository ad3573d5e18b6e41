//! Writes to fixed sectors in a fixed order: each is durable before the next one begins.
//!
//! Modules that own a format return the writes and their order; the caller that has opened the disk performs them, with
//! a sync after each. So tests check the order without a disk, and cut the power after every step.

use alloc::vec::Vec;
use core::fmt;
#[cfg(feature = "std")]
use std::io::{self, Seek, SeekFrom, Write};

use crate::disk::size::{SECTOR_SIZE, Sectors};

/// Whole sectors for a fixed location on the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct SectorWrite {
    /// The first sector.
    pub at: Sectors,
    /// A multiple of [`SECTOR_SIZE`] bytes.
    pub bytes: Vec<u8>,
}

impl SectorWrite {
    /// Returns a write of `bytes`, with zeros up to the end of the last sector.
    pub fn padded(at: Sectors, mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR_SIZE as usize), 0);
        SectorWrite { at, bytes }
    }
}

/// Prints a checksum in place of the bytes.
impl fmt::Debug for SectorWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crc = format_args!("{:08x}", crc32fast::hash(&self.bytes));
        f.debug_struct("SectorWrite")
            .field("at", &self.at)
            .field("len", &self.bytes.len())
            .field("crc", &crc)
            .finish()
    }
}

/// Performs `writes` in order and calls `sync` (`File::sync_data` for a file or a block device) after each.
#[cfg(feature = "std")]
pub fn write_in_order<D: Write + Seek>(
    disk: &mut D,
    writes: &[SectorWrite],
    mut sync: impl FnMut(&mut D) -> io::Result<()>,
) -> io::Result<()> {
    for write in writes {
        disk.seek(SeekFrom::Start(write.at.bytes().0))?;
        disk.write_all(&write.bytes)?;
        disk.flush()?;
        // Without a sync between them the disk may reorder writes, and a power cut keep only a later one.
        sync(disk)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn each_write_is_synced_before_the_next_begins() {
        let mut disk = Cursor::new(vec![0xee; 4 * 512]);
        let writes =
            [SectorWrite::padded(Sectors(2), vec![1; 3]), SectorWrite::padded(Sectors(0), vec![2; 512])];
        let mut seen = Vec::new();
        write_in_order(&mut disk, &writes, |disk| {
            seen.push((disk.get_ref()[0], disk.get_ref()[1024], disk.get_ref()[1024 + 3]));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0xee, 1, 0), (2, 1, 0)]);
    }
}
