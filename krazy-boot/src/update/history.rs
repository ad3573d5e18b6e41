//! Outcomes of updates: `/data/krazy/updates.json`. Only init writes it; admind reads it.
//!
//! An attempt is recorded when its trial is armed and concluded when it is confirmed, withdrawn, or found to have
//! failed. The newest 32 are kept. The file is replaced as a whole, so a reader gets the old one or the
//! new one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::slot::Slot;

/// The file, relative to `/data`.
pub const PATH: &str = "krazy/updates.json";

/// The reason of an attempt whose build was stable and was not confirmed: the device could not be reached, or nobody tried.
pub const NOBODY_CONFIRMED: &str = "nobody confirmed the trial in time";

/// The version of this format. Readers reject a higher one.
const FORMAT: u32 = 1;

/// Number of attempts that are kept.
const MAX_ATTEMPTS: usize = 32;

/// Limit of the file in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Attempts to run another build, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    format: u32,
    /// The attempts, at most 32.
    pub attempts: Vec<Attempt>,
}

/// One trial of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// The build's id in hex, as its manifest has it.
    pub build_id: String,
    /// The slot it was tried in.
    pub slot: Slot,
    /// Generation of the boot selector that armed it, which distinguishes two trials of one build.
    pub generation: u32,
    /// Time at which it was armed, in seconds since 1970 by the device's clock.
    pub armed_at: u64,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason for its failure, as a sentence without its final stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is armed or running on trial.
    Pending,
    /// It was confirmed.
    Confirmed,
    /// It was not confirmed, and the device booted the confirmed slot again; there is a reason.
    Failed,
    /// It was disarmed before it ran.
    Withdrawn,
}

/// Prints a sentence: `build 0123456789abcdef in slot B failed: nobody confirmed the trial in time`.
impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build: String = self.build_id.chars().take(16).collect();
        let outcome = match self.outcome {
            Outcome::Pending => "is armed or on trial",
            Outcome::Confirmed => "was confirmed",
            Outcome::Failed => "failed",
            Outcome::Withdrawn => "was withdrawn",
        };
        write!(f, "build {build} in slot {} {outcome}", self.slot)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// A failure to read or write the history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not JSON of the expected shape.
    #[error("the history of updates is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The file is longer than any that this program writes.
    #[error("the history of updates is longer than {MAX_FILE} bytes")]
    TooLong,
    /// The file was written by a newer version.
    #[error("the history of updates has format {0}, this program reads up to {FORMAT}")]
    TooNew(u32),
}

impl Default for History {
    fn default() -> Self {
        History { format: FORMAT, attempts: Vec::new() }
    }
}

impl History {
    /// Reads the file at `path`. A missing file is an empty history.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_FILE + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
            Err(error) => return Err(error.into()),
        };
        if bytes.len() as u64 > MAX_FILE {
            return Err(HistoryError::TooLong);
        }
        Self::from_json(&bytes)
    }

    /// Parses the content of the file.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, HistoryError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let header: Header = serde_json::from_slice(bytes)?;
        if header.format > FORMAT {
            return Err(HistoryError::TooNew(header.format));
        }
        let mut history: History = serde_json::from_slice(bytes)?;
        history.bound();
        Ok(history)
    }

    /// Replaces the file at `path` durably: a temporary file beside it, synced, renamed, and the directory synced.
    pub fn write(&self, path: &Path) -> Result<(), HistoryError> {
        let bytes = serde_json::to_vec(self)?;
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Adds an attempt that begins. Earlier ones that are still pending become withdrawn: a power cut between two writes has
    /// kept them from being concluded.
    pub fn begin(&mut self, attempt: Attempt) {
        for earlier in &mut self.attempts {
            if earlier.outcome == Outcome::Pending {
                earlier.outcome = Outcome::Withdrawn;
            }
        }
        self.attempts.push(attempt);
        self.bound();
    }

    /// Concludes an attempt, given with its outcome. A missing one is added, because `/data` may have been replaced, or full,
    /// when it began. One that is concluded already does not change.
    pub fn conclude(&mut self, concluded: Attempt) {
        let same = |attempt: &&mut Attempt| {
            (attempt.generation, attempt.slot, &attempt.build_id)
                == (concluded.generation, concluded.slot, &concluded.build_id)
        };
        match self.attempts.iter_mut().rev().find(same) {
            Some(attempt) if attempt.outcome == Outcome::Pending => {
                attempt.outcome = concluded.outcome;
                attempt.reason = concluded.reason;
            }
            Some(_) => {}
            None => {
                self.attempts.push(concluded);
                self.bound();
            }
        }
    }

    /// Returns the last attempt of `build_id` if it failed. One with [`NOBODY_CONFIRMED`] is no failure of the build: a
    /// stranger can bring it about who keeps the owner from the device.
    pub fn failure_of(&self, build_id: &str) -> Option<&Attempt> {
        let last = self.attempts.iter().rev().find(|attempt| attempt.build_id == build_id)?;
        let failed = last.outcome == Outcome::Failed && last.reason.as_deref() != Some(NOBODY_CONFIRMED);
        failed.then_some(last)
    }

    fn bound(&mut self) {
        let surplus = self.attempts.len().saturating_sub(MAX_ATTEMPTS);
        self.attempts.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(generation: u32, outcome: Outcome) -> Attempt {
        let reason = (outcome == Outcome::Failed).then(|| "init panicked".to_owned());
        Attempt { build_id: "ab".into(), slot: Slot::B, generation, armed_at: 1_800_000_000, outcome, reason }
    }

    #[test]
    fn written_history_has_the_golden_text_and_replaces_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.json");
        assert_eq!(History::read(&path).unwrap(), History::default());
        let mut history = History::default();
        history.begin(attempt(3, Outcome::Pending));
        history.write(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"format":1,"attempts":[{"build_id":"ab","slot":"b","generation":3,"armed_at":1800000000,"outcome":"pending"}]}"#
        );
        assert_eq!(History::read(&path).unwrap(), history);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn attempt_is_concluded_once() {
        let mut history = History::default();
        history.begin(attempt(3, Outcome::Pending));
        history.conclude(attempt(3, Outcome::Failed));
        history.conclude(attempt(3, Outcome::Confirmed));
        assert_eq!(history.attempts, [attempt(3, Outcome::Failed)]);
        assert!(history.failure_of("ab").is_some() && history.failure_of("cd").is_none());
        // Tried again by force, and kept.
        history.begin(attempt(5, Outcome::Pending));
        history.conclude(attempt(5, Outcome::Confirmed));
        assert!(history.failure_of("ab").is_none());
        // Begun when `/data` was another one.
        history.conclude(attempt(9, Outcome::Failed));
        assert_eq!(history.attempts.len(), 3);
    }

    #[test]
    fn build_that_nobody_confirmed_has_not_failed() {
        let mut history = History::default();
        history.begin(attempt(3, Outcome::Pending));
        history
            .conclude(Attempt { reason: Some(NOBODY_CONFIRMED.to_owned()), ..attempt(3, Outcome::Failed) });
        assert_eq!(history.failure_of("ab"), None);
        history.conclude(attempt(5, Outcome::Failed));
        assert!(history.failure_of("ab").is_some());
    }

    #[test]
    fn history_is_bounded_and_pending_attempts_are_withdrawn() {
        let mut history = History::default();
        for generation in 0..100 {
            history.begin(attempt(generation, Outcome::Pending));
        }
        assert_eq!(history.attempts.len(), MAX_ATTEMPTS);
        let pending = history.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Pending);
        assert_eq!(pending.map(|attempt| attempt.generation).collect::<Vec<_>>(), [99]);
    }

    #[test]
    fn attempts_print_as_sentences() {
        assert_eq!(attempt(3, Outcome::Failed).to_string(), "build ab in slot B failed: init panicked");
        assert_eq!(attempt(3, Outcome::Confirmed).to_string(), "build ab in slot B was confirmed");
    }

    #[test]
    fn newer_and_overlong_files_are_refused() {
        let newer = History::from_json(br#"{"format":2,"tries":7}"#).unwrap_err();
        assert_eq!(newer.to_string(), "the history of updates has format 2, this program reads up to 1");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.json");
        fs::write(&path, vec![b' '; MAX_FILE as usize + 1]).unwrap();
        assert!(matches!(History::read(&path), Err(HistoryError::TooLong)));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = History::from_json(&bytes);
        }
    }
}
