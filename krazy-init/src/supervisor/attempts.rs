//! Where the history of updates is kept: [`krazy_boot::update::history`] on the disk's `/data`, and nowhere else.

use std::path::{Path, PathBuf};

use krazy_boot::update::history::{self, History, HistoryError, Outcome};

use crate::linux::data::{DATA, DataMount};

fn path() -> PathBuf {
    Path::new(DATA).join(history::PATH)
}

/// Changes the file. One that is damaged is begun anew: what is to be kept now counts more.
pub fn change(data: &DataMount, change: impl FnOnce(&mut History)) -> Result<(), String> {
    if let DataMount::Temporary(why) = data {
        return Err(format!("{DATA} is temporary: {why}"));
    }
    let path = path();
    let context = |error: HistoryError| format!("{}: {error}", path.display());
    let mut history = match History::read(&path) {
        Ok(history) => history,
        Err(HistoryError::Damaged(_) | HistoryError::TooLong) => History::default(),
        Err(error) => return Err(context(error)),
    };
    change(&mut history);
    history.write(&path).map_err(context)
}

/// Whether an attempt is recorded as pending.
pub fn has_pending(data: &DataMount) -> bool {
    matches!(data, DataMount::Disk(_))
        && History::read(&path())
            .is_ok_and(|history| history.attempts.iter().any(|it| it.outcome == Outcome::Pending))
}
