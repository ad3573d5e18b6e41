//! The log of a disk's writes and flushes that QEMU's `blklogwrites` keeps.
//!
//! The format is that of dm-log-writes: Linux `Documentation/admin-guide/device-mapper/log-writes.rst`, QEMU
//! `block/blklogwrites.c`. Numbers are little-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 0 … 7 | magic `0x6a736677736872` |
//! | 8 … 15 | version, 1 |
//! | 16 … 23 | number of entries, as of the last flush |
//! | 24 … 27 | bytes of a sector |
//!
//! From the second sector on there are entries: first sector, number of sectors, flags and length of a mark, 64 bits each,
//! padded to a sector. The written data follows in sectors of its own; a flush and a discard have none. Writes with FUA
//! and marks are not supported: a virtio disk has no FUA, and nobody sets marks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const HEAD_LEN: usize = 28;
const ENTRY_LEN: usize = 32;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// A command to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bytes `start` to `end` of the disk become those at `data` in the log.
    Write {
        /// First byte on the disk.
        start: u64,
        /// The byte behind the last one.
        end: u64,
        /// Position of the data in the log.
        data: u64,
    },
    /// Bytes `start` to `end` of the disk are no longer needed.
    Discard {
        /// First byte on the disk.
        start: u64,
        /// The byte behind the last one.
        end: u64,
    },
    /// Every completed write is made durable.
    Flush,
}

/// A command and the position behind it in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The command.
    pub command: Command,
    /// The position in the log at which the next entry begins.
    pub log_end: u64,
}

/// Reads a log.
///
/// The log of a killed QEMU has more entries than its head counts: they are read up to the first one that was not
/// written completely. An entry that the head counts must be valid.
pub fn read(log: &File) -> Result<Vec<Entry>> {
    let len = log.metadata()?.len();
    let (counted, sector) = head(log, len)?;

    let mut entries: Vec<Entry> = Vec::new();
    let mut at = sector;
    loop {
        let is_counted = (entries.len() as u64) < counted;
        match entry(log, at, sector, len)? {
            Some(entry) => {
                at = entry.log_end;
                entries.push(entry);
            }
            None if is_counted => {
                bail!("entry {} of {counted} at byte {at} of the log is invalid", entries.len())
            }
            None => return Ok(entries),
        }
    }
}

/// Reads the number of entries and the length of a sector. QEMU writes the head at the first flush, so the log of a
/// machine that was killed before has none; its sectors have QEMU's default length.
fn head(log: &File, len: u64) -> Result<(u64, u64)> {
    let mut head = [0; HEAD_LEN];
    let present = len.min(HEAD_LEN as u64) as usize;
    log.read_exact_at(&mut head[..present], 0)?;
    if head == [0; HEAD_LEN] {
        return Ok((0, 512));
    }
    ensure!(number(&head, 0) == MAGIC, "the log has no magic");
    ensure!(number(&head, 8) == 1, "the log has version {}, this program reads 1", number(&head, 8));
    let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
    ensure!(sector >= 512 && sector.is_power_of_two(), "the log has sectors of {sector} bytes");
    Ok((number(&head, 16), sector))
}

/// Reads the entry at `at`; `None` if there is no complete and valid one.
fn entry(log: &File, at: u64, sector: u64, len: u64) -> Result<Option<Entry>> {
    let mut bytes = [0; ENTRY_LEN];
    match log.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [first, count, flags, mark] = [0, 8, 16, 24].map(|offset| number(&bytes, offset));
    let data = at + sector;
    let disk = first.checked_mul(sector).zip(count.checked_mul(sector));
    let Some((start, size)) = disk.filter(|_| mark == 0) else { return Ok(None) };
    let Some(end) = start.checked_add(size) else { return Ok(None) };
    let (command, log_end) = match (flags, count) {
        (FLUSH, 0) => (Command::Flush, data),
        (DISCARD, 1..) => (Command::Discard { start, end }, data),
        // The data of a write follows; that of a torn log ends early.
        (0, 1..) if data.checked_add(size).is_some_and(|end| end <= len) => {
            (Command::Write { start, end, data }, data + size)
        }
        _ => return Ok(None),
    };
    Ok(Some(Entry { command, log_end }))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with these entries (first sector, sectors, flags), whose head counts `counted` of them.
    fn log(counted: u64, entries: &[(u64, u64, u64)]) -> File {
        let mut bytes = Vec::new();
        for number in [MAGIC, 1, counted, 512] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(512, 0);
        for (sector, count, flags) in entries {
            for number in [*sector, *count, *flags, 0] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            if *flags == 0 {
                bytes.resize(bytes.len() + *count as usize * 512, 7);
            }
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    #[test]
    fn entries_are_read_in_order() {
        let log = log(3, &[(8, 2, 0), (0, 0, FLUSH), (16, 128, DISCARD)]);
        let write = Command::Write { start: 4096, end: 5120, data: 1024 };
        let discard = Command::Discard { start: 8192, end: 8192 + 65536 };
        let expected = [(write, 2048), (Command::Flush, 2560), (discard, 3072)]
            .map(|(command, log_end)| Entry { command, log_end });
        assert_eq!(read(&log).unwrap(), expected);
    }

    #[test]
    fn log_of_a_killed_machine_is_read_up_to_its_torn_entry() {
        let log = log(1, &[(8, 2, 0), (0, 0, FLUSH), (9, 4, 0)]);
        log.set_len(log.metadata().unwrap().len() - 1).unwrap();
        assert_eq!(read(&log).unwrap().len(), 2);
    }

    #[test]
    fn log_without_a_flush_has_no_head() {
        assert_eq!(read(&tempfile::tempfile().unwrap()).unwrap(), []);
        let log = log(0, &[(8, 2, 0)]);
        log.write_all_at(&[0; 512], 0).unwrap();
        assert_eq!(read(&log).unwrap().len(), 1);
    }

    #[test]
    fn invalid_logs_are_rejected() {
        let message = |log: &File| read(log).unwrap_err().to_string();
        assert_eq!(message(&log(2, &[(8, 2, 0)])), "entry 1 of 2 at byte 2048 of the log is invalid");
        assert_eq!(message(&log(1, &[(8, 2, 2)])), "entry 0 of 1 at byte 512 of the log is invalid");
        let other = log(0, &[]);
        other.write_all_at(b"x", 0).unwrap();
        assert_eq!(message(&other), "the log has no magic");
    }
}
