//! The trial note: [`krazy_boot::disk::trial_note`].

use std::fs::File;

use krazy_boot::disk::trial_note::TrialNote;

use crate::linux::block::Disk;

/// A note that cannot be read explains nothing, which is all it is for.
pub fn read(disk: &Disk) -> Option<TrialNote> {
    TrialNote::read(&mut File::open(disk.node()).ok()?).ok()
}
