//! The condition of `/data`, from its superblock, sysfs and the log of the kernel. Nothing here writes.
//! Source: Linux `Documentation/ABI/testing/sysfs-fs-ext4` and `Documentation/ABI/testing/dev-kmsg`.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use krazy_boot::api::data::{DataError, DataReport, DataSource, DataState, FORMAT_REQUEST};
use krazy_boot::disk::ext4_superblock::{RecordedError, Superblock};
use krazy_boot::disk::size::SECTOR_SIZE;
use rustix::fs::{OFlags, StatVfsMountFlags, statvfs};
use rustix::io::Errno;

use super::system::data_space;
use crate::problem::Problem;

/// The most lines of the kernel that are reported.
const MAX_LINES: usize = 20;

/// The longest record of `/dev/kmsg`. Source: Linux `include/linux/printk.h`, `PRINTK_MESSAGE_MAX`.
const RECORD_LEN: usize = 8192;

/// Reads the condition of `/data`, which init mounted from `source`.
pub(super) fn report(root: &Path, source: Option<DataSource>) -> Result<DataReport, Problem> {
    let stat = statvfs(root.join("data")).map_err(|errno| Problem::from_errno(errno, "/data"))?;
    let node = source.as_ref().and_then(|source| source.partition.clone());
    let name = node.as_deref().and_then(|node| node.strip_prefix("/dev/"));
    let superblock = name.and_then(|name| superblock(&root.join("dev").join(name)));
    let is_mounted =
        source.as_ref().is_some_and(|source| source.partition.is_some() && source.temporary.is_none());
    let counted = || read_number(&root.join("sys/fs/ext4").join(name?).join("errors_count"));
    // While it is mounted, the superblock may lag behind.
    let errors = is_mounted.then(counted).flatten().or(superblock.as_ref().map(|it| u64::from(it.errors)));
    let state = match (is_mounted, &superblock) {
        (false, _) if source.is_none() => None,
        (false, _) => Some(DataState::NotMounted),
        (true, Some(superblock)) if superblock.has_errors => Some(DataState::Errors),
        (true, _) if errors.is_some_and(|count| count > 0) => Some(DataState::Errors),
        (true, _) => Some(DataState::Clean),
    };
    let sectors = name.and_then(|name| read_number(&root.join("sys/class/block").join(name).join("size")));
    let (first, last) = superblock.map_or((None, None), |it| (it.first_error, it.last_error));
    Ok(DataReport {
        state,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        partition_size: sectors.map(|sectors| sectors.saturating_mul(SECTOR_SIZE)),
        space: data_space(root)?,
        errors,
        first_error: first.map(error),
        last_error: last.map(error),
        kernel_log: name.map(|name| kernel_log(&root.join("dev/kmsg"), name)).unwrap_or_default(),
        format_requested: root.join("boot").join(FORMAT_REQUEST).exists(),
        source,
    })
}

fn error(error: RecordedError) -> DataError {
    let RecordedError { time, function, line, inode, block } = error;
    DataError { time, function, line, inode, block }
}

/// Reads the superblock on `node`; `None` if the partition cannot be read or has none, which the kernel's log tells.
fn superblock(node: &Path) -> Option<Superblock> {
    Superblock::read(&mut File::open(node).ok()?).ok()?
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Reads the newest lines about the file system or the disk of partition `name`; none without access to the log.
fn kernel_log(kmsg: &Path, name: &str) -> Vec<String> {
    let mut options = OpenOptions::new();
    let Ok(mut log) = options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(kmsg) else {
        return Vec::new();
    };
    let mut lines = VecDeque::new();
    let mut record = vec![0; RECORD_LEN];
    loop {
        // Each read returns one record.
        match log.read(&mut record) {
            Ok(length @ 1..) => {
                let text = String::from_utf8_lossy(&record[..length]);
                if let Some(line) = line_about(&text, name) {
                    lines.push_back(line);
                }
                if lines.len() > MAX_LINES {
                    lines.pop_front();
                }
            }
            // Records were overwritten meanwhile; the next read continues with the oldest one left.
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return lines.into(),
        }
    }
}

/// Returns the text of a record, `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`, if it is about partition `name`.
fn line_about(record: &str, name: &str) -> Option<String> {
    let (_, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    let names_it = text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name);
    (names_it && ["EXT4-fs", "JBD2", "I/O error"].iter().any(|part| text.contains(part)))
        .then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lines_of_the_partition_are_found() {
        let about = |record: &str| line_about(record, "vda4");
        let text = "EXT4-fs error (device vda4): ext4_lookup:1855: inode #2: comm init: iget: bad inode";
        assert_eq!(about(&format!("3,512,1000,-;{text}\n SUBSYSTEM=block\n")).as_deref(), Some(text));
        assert!(about("4,513,2000,-;EXT4-fs (vda4): warning: mounting fs with errors").is_some());
        assert!(about("6,514,2000,-;JBD2: recovery failed").is_none(), "it may be another disk's");
        assert!(about("4,515,2000,-;EXT4-fs (vda40): x").is_none());
        assert!(about("no record of vda4").is_none());
    }
}
