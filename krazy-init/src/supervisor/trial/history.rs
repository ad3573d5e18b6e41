//! The record of updates: [`krazy_boot::update::history`] on the disk's `/data`, and nowhere else.

use std::path::{Path, PathBuf};

use krazy_boot::update::history::{self, History, HistoryError, Outcome};

use super::super::effect::Effects;
use crate::linux::data::{DATA, DataMount};

/// The file of the record, if it can be kept.
#[derive(Clone, Debug)]
pub(super) enum UpdateHistory {
    /// It is this file.
    File(PathBuf),
    /// `/data` is temporary, for this reason.
    Nowhere(String),
}

/// The failure to record an attempt.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{DATA} is temporary: {0}")]
    Temporary(String),
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, #[source] HistoryError),
}

impl UpdateHistory {
    /// The record on this `/data`.
    pub(super) fn on(data: &DataMount) -> Self {
        match data {
            DataMount::Disk(_) => UpdateHistory::File(Path::new(DATA).join(history::PATH)),
            DataMount::Temporary(why) => UpdateHistory::Nowhere(why.clone()),
        }
    }

    /// Changes the record. Returns false, and reports why, if it could not be changed.
    pub(super) fn record(&self, effects: &mut Effects, change: impl FnOnce(&mut History)) -> bool {
        match self.change(change) {
            Ok(()) => true,
            Err(error) => {
                effects.degrade(format!("the history of updates is not kept: {error}"));
                false
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut History)) -> Result<(), RecordError> {
        let path = match self {
            UpdateHistory::File(path) => path,
            UpdateHistory::Nowhere(why) => return Err(RecordError::Temporary(why.clone())),
        };
        let failed = |error| RecordError::File(path.clone(), error);
        let mut history = match History::read(path) {
            Ok(history) => history,
            // Begun anew: the attempt to be recorded now counts more than the damaged ones.
            Err(HistoryError::Damaged(_) | HistoryError::TooLong) => History::default(),
            Err(error) => return Err(failed(error)),
        };
        change(&mut history);
        history.write(path).map_err(failed)
    }

    /// Returns true if an attempt is recorded as pending.
    pub(super) fn has_pending(&self) -> bool {
        let UpdateHistory::File(path) = self else { return false };
        History::read(path)
            .is_ok_and(|history| history.attempts.iter().any(|it| it.outcome == Outcome::Pending))
    }
}
