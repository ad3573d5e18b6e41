//! One log file: bounded, rotated once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The most bytes that one read of a tail takes.
const MAX_TAIL: u64 = 1 << 20;

/// Flags of open(2) for a name that another account may have made: a link is not followed, and a FIFO without another end
/// is no reason to wait. They have no effect on regular files.
const NO_LINK_NO_WAIT: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// A file that never grows beyond its limit: when it would, it becomes `NAME.1` and a new one begins.
///
/// Its directory is init's own. Should others be able to write there all the same, no name of theirs misleads or blocks
/// init: what is opened is a regular file and no link, and opening never waits for the other end of a pipe.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    limit: u64,
    group: u32,
    /// Bytes that could not be written, its file system being full, read-only or too slow.
    lost: u64,
}

impl LogFile {
    /// Creates a file of at most `limit` bytes that root writes and `group` may read.
    pub(crate) fn create(path: PathBuf, limit: u64, group: u32) -> io::Result<Self> {
        let file = create_new(&path, group)?;
        Ok(LogFile { path, file: Some(file), length: 0, limit, group, lost: 0 })
    }

    /// Continues the file that an earlier boot left, or creates it. Only for directories that services cannot write.
    pub(crate) fn resume(path: PathBuf, limit: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640).custom_flags(NO_LINK_NO_WAIT);
        let file = options.open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let length = metadata.len();
        Ok(LogFile { path, file: Some(file), length, limit, group: 0, lost: 0 })
    }

    /// Appends `bytes`. A full file system loses them; that is counted and noted in the file once there is room.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        // Before writing, so that no chunk is divided between two files.
        if self.length + bytes.len() as u64 > self.limit {
            self.rotate();
        }
        if self.lost > 0 {
            let note = format!(
                "krazy: {} bytes were lost: there was no room for them, or the disk was too slow\n",
                self.lost
            );
            if !self.write(note.as_bytes()) {
                self.lost += bytes.len() as u64;
                return;
            }
            self.lost = 0;
        }
        if !self.write(bytes) {
            self.lost += bytes.len() as u64;
        }
    }

    /// Counts bytes that were lost before they came here, to be noted like those that could not be written.
    pub(crate) fn lose(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The newest `count` lines, oldest first, from this file and the rotated one.
    pub(crate) fn tail(&self, count: usize) -> io::Result<Vec<String>> {
        let mut lines = tail_of(&self.path, count)?;
        if lines.len() < count {
            let mut older = tail_of(&rotated(&self.path), count - lines.len())?;
            older.append(&mut lines);
            lines = older;
        }
        Ok(lines)
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        match file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                true
            }
            Err(_) => {
                // A part may have been written; where it ends is not known any more.
                self.length = file.metadata().map_or(self.length, |metadata| metadata.len());
                false
            }
        }
    }

    fn rotate(&mut self) {
        // If the old name is a directory, the old lines are dropped instead of kept.
        let _dropped = fs::rename(&self.path, rotated(&self.path));
        match create_new(&self.path, self.group) {
            Ok(file) => {
                self.file = Some(file);
                self.length = 0;
            }
            Err(_) => self.file = None,
        }
    }
}

/// Creates `path` anew. What is there already is removed if it can be: only this function makes such names, so
/// it is a leftover or a trap.
fn create_new(path: &Path, group: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o640).custom_flags(NO_LINK_NO_WAIT);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)?
        }
        other => other?,
    };
    if rustix::process::geteuid().is_root() {
        fchown(&file, Some(0), Some(group))?;
    }
    Ok(file)
}

/// The name a full file gets.
fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn tail_of(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = match OpenOptions::new().read(true).custom_flags(NO_LINK_NO_WAIT).open(path) {
        Ok(file) => file,
        // Nothing there, or a link, which is not init's.
        Err(error) if [Some(libc::ENOENT), Some(libc::ELOOP)].contains(&error.raw_os_error()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let length = file.metadata()?.len();
    let start = length.saturating_sub(MAX_TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if start > 0 && !lines.is_empty() {
        // Cut in its middle.
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(count);
    Ok(lines[skip..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_file_is_rotated_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let mut log = LogFile::create(path.clone(), 1000, 0).unwrap();
        for i in 0..500 {
            log.append(format!("line {i}\n").as_bytes());
        }
        let old = rotated(&path);
        assert!(fs::metadata(&path).unwrap().len() <= 1000);
        assert!((900..=1000).contains(&fs::metadata(&old).unwrap().len()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let tail = log.tail(150).unwrap();
        assert_eq!(tail.len(), 150);
        assert_eq!((tail[0].as_str(), tail[149].as_str()), ("line 350", "line 499"));
        assert_eq!(log.tail(2).unwrap(), ["line 498", "line 499"]);
    }

    #[test]
    fn resumed_file_keeps_its_lines_and_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        for boot in 0..5 {
            let mut log = LogFile::resume(path.clone(), 40).unwrap();
            log.append(format!("boot {boot}, a line\n").as_bytes());
            assert!(fs::metadata(&path).unwrap().len() <= 40);
        }
        let log = LogFile::resume(path, 40).unwrap();
        assert_eq!(log.tail(9).unwrap(), ["boot 2, a line", "boot 3, a line", "boot 4, a line"]);
    }

    #[test]
    fn pipes_in_place_of_files_block_nobody() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &Path| {
            let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: the text ends with NUL and outlives the call.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
        };
        let path = dir.path().join("web.log");
        let mut log = LogFile::create(path.clone(), 1000, 0).unwrap();
        log.append(b"a line\n");
        make(&rotated(&path));
        assert_eq!(log.tail(5).unwrap(), ["a line"]);
        fs::remove_file(&path).unwrap();
        make(&path);
        assert_eq!(log.tail(5).unwrap(), Vec::<String>::new());
        assert!(LogFile::resume(path.clone(), 1000).is_err(), "nobody reads it");
        let _reader = OpenOptions::new().read(true).custom_flags(NO_LINK_NO_WAIT).open(&path).unwrap();
        assert!(LogFile::resume(path.clone(), 1000).is_err(), "somebody reads it");
        // A file takes the place of the pipe.
        LogFile::create(path, 1000, 0).unwrap().append(b"another\n");
    }

    #[test]
    fn links_and_directories_of_services_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = dir.path().join("web.log");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let mut log = LogFile::create(path.clone(), 30, 0).unwrap();
        std::os::unix::fs::symlink(&victim, rotated(&path)).unwrap();
        log.append(b"twenty bytes or more\n");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        log.append(b"twenty bytes or more\n");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(log.tail(5).unwrap(), ["twenty bytes or more"]);
        fs::remove_file(rotated(&path)).unwrap();
        fs::create_dir(rotated(&path)).unwrap();
        log.append(b"twenty bytes or more\n");
        assert_eq!(log.tail(5).unwrap(), ["twenty bytes or more"]);
    }
}
