//! A number that survives power cuts and updates.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file in the state directory.
const FILE_NAME: &str = "hello-visits";

/// A visit counter in a file.
#[derive(Debug)]
pub struct Counter {
    directory: PathBuf,
    visits: Mutex<u64>,
}

impl Counter {
    /// Opens the counter in `directory`, and creates the directory if necessary. A new counter is 0.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let visits = match fs::read_to_string(directory.join(FILE_NAME)) {
            Ok(text) => text.trim().parse().map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{FILE_NAME} holds {text:?}: {error}"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Counter { directory: directory.to_owned(), visits: Mutex::new(visits) })
    }

    /// Returns the visits so far.
    pub fn visits(&self) -> u64 {
        *self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a visit. Returns the new number once it is on the disk.
    pub fn visit(&self) -> io::Result<u64> {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let next = visits.saturating_add(1);
        self.store(next)?;
        *visits = next;
        Ok(next)
    }

    /// Replaces the file atomically: after a power cut it holds the old number or the new one.
    fn store(&self, visits: u64) -> io::Result<()> {
        let temporary = self.directory.join(format!("{FILE_NAME}.new"));
        let mut file = File::create(&temporary)?;
        writeln!(file, "{visits}")?;
        file.sync_all()?;
        fs::rename(&temporary, self.directory.join(FILE_NAME))?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_continues_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("made/on/demand");
        let counter = Counter::open(&state).unwrap();
        assert_eq!((counter.visits(), counter.visit().unwrap(), counter.visit().unwrap()), (0, 1, 2));
        assert_eq!(Counter::open(&state).unwrap().visits(), 2);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn damaged_file_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE_NAME), "many").unwrap();
        let error = Counter::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("hello-visits holds \"many\""), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join(FILE_NAME)).unwrap(), "many");
    }

    #[test]
    fn visit_that_cannot_be_stored_is_not_counted() {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("hello-visits.new")).unwrap();
        assert!(counter.visit().is_err());
        assert_eq!(counter.visits(), 0);
    }
}
