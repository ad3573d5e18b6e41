//! Output of a service that is kept on `/data`. Lines wait in memory until a thread writes them: the disk may be slow.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LogFile;

/// The most bytes of one file that wait. A service that writes more than the disk takes loses the rest.
const MAX_WAITING: usize = 256 << 10;

/// The loop's end of a file on `/data`.
#[derive(Debug)]
pub(crate) struct KeptOutput {
    /// Locked by the thread only.
    file: Arc<Mutex<LogFile>>,
    waiting: Vec<u8>,
    lost: u64,
}

/// Lines that leave the loop, with their file.
#[derive(Debug)]
pub(crate) struct Chunk {
    file: Arc<Mutex<LogFile>>,
    bytes: Vec<u8>,
    lost: u64,
}

impl KeptOutput {
    /// Continues the file that an earlier boot left, or creates it.
    pub(crate) fn resume(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = Arc::new(Mutex::new(LogFile::resume(path, limit)?));
        Ok(KeptOutput { file, waiting: Vec::new(), lost: 0 })
    }

    /// Adds lines, unless too many wait.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > MAX_WAITING {
            self.lost += bytes.len() as u64;
        } else {
            self.waiting.extend_from_slice(bytes);
        }
    }

    /// Returns true if lines wait.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || self.lost > 0
    }

    /// Takes what waits. Chunks must be written in the order in which they were taken.
    pub(crate) fn take(&mut self) -> Chunk {
        let bytes = std::mem::take(&mut self.waiting);
        Chunk { file: Arc::clone(&self.file), bytes, lost: std::mem::take(&mut self.lost) }
    }
}

impl Chunk {
    /// Writes the lines.
    pub(crate) fn write(self) {
        self.write_then(|_| ());
    }

    /// Writes the lines and returns the newest `count` of the file, oldest first.
    pub(crate) fn write_and_read(self, count: usize) -> io::Result<Vec<String>> {
        self.write_then(|file| file.tail(count))
    }

    fn write_then<T>(self, then: impl FnOnce(&LogFile) -> T) -> T {
        // Poisoned only by a panic, after which the machine restarts.
        let mut file: MutexGuard<'_, LogFile> = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.bytes.is_empty() {
            file.append(&self.bytes);
        }
        // After the bytes: those that were lost came later.
        file.lose(self.lost);
        then(&file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_in_memory_up_to_a_limit_and_the_loss_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let mut kept = KeptOutput::resume(path.clone(), 1 << 20).unwrap();
        assert!(!kept.is_behind());
        kept.append(b"first\n");
        assert!(kept.is_behind());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "nothing is written by the loop");
        let early = kept.take();
        kept.append(&vec![b'x'; MAX_WAITING]);
        kept.append(b"lost\n");
        let late = kept.take();
        assert!(!kept.is_behind());
        assert_eq!(early.write_and_read(9).unwrap(), ["first"], "no line that came later");
        late.write();
        kept.append(b"last\n");
        let lines = kept.take().write_and_read(2).unwrap();
        assert!(
            lines[0]
                .ends_with("krazy: 5 bytes were lost: there was no room for them, or the disk was too slow")
        );
        assert_eq!(lines[1], "last");
    }
}
