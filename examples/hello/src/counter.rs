//! A number that survives power cuts and updates.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file's name in the state folder.
const FILE: &str = "hello-visits";

/// A visit counter in a file.
#[derive(Debug)]
pub struct Counter {
    folder: PathBuf,
    visits: Mutex<u64>,
}

impl Counter {
    /// Opens the counter in `folder`, which is made if missing. A new counter is 0.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let visits = match fs::read_to_string(folder.join(FILE)) {
            Ok(text) => text.trim().parse().map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} holds {text:?}: {error}"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Counter { folder: folder.to_owned(), visits: Mutex::new(visits) })
    }

    /// The visits so far.
    pub fn visits(&self) -> u64 {
        *self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a visit and returns the new number once it is on the disk.
    pub fn visit(&self) -> io::Result<u64> {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let next = visits.saturating_add(1);
        self.store(next)?;
        *visits = next;
        Ok(next)
    }

    /// Replaces the file in one step, so that after a power cut it holds the old number or the new one.
    fn store(&self, visits: u64) -> io::Result<()> {
        let temporary = self.folder.join(format!("{FILE}.new"));
        let mut file = File::create(&temporary)?;
        writeln!(file, "{visits}")?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("made/on/demand");
        let counter = Counter::open(&state).unwrap();
        assert_eq!((counter.visits(), counter.visit().unwrap(), counter.visit().unwrap()), (0, 1, 2));
        assert_eq!(Counter::open(&state).unwrap().visits(), 2);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "many").unwrap();
        let error = Counter::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("hello-visits holds \"many\""), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), "many");
    }

    #[test]
    fn a_visit_that_cannot_be_stored_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let counter = Counter::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("hello-visits.new")).unwrap();
        assert!(counter.visit().is_err());
        assert_eq!(counter.visits(), 0);
    }
}
