//! Work that services need not wait for, the first tasks of the thread that waits for the disk: mounting `/boot` (its file
//! system is three modules in most kernels, a third of a second under an emulator), the random seed (a write that has to
//! reach the disk), and growing the file system of `/data` (seconds on a large card).

use std::path::PathBuf;

use super::boot;
use super::effect::Effects;
use crate::linux::block::Disk;
use crate::linux::{boot_mount, entropy, grow_data};

/// The random seed, a file of the machine on `/data`.
pub(super) const SEED: &str = "random-seed";

/// Queues the work: `/boot` is mounted from `disk`, writable or not, and `data` is the partition mounted on `/data`, if
/// that is the disk's.
pub(super) fn queue(disk: Option<Disk>, boot_writable: bool, data: Option<PathBuf>, effects: &mut Effects) {
    effects.on_disk("mounting /boot", move |effects| {
        if let Err(why) = boot_mount::mount(disk.as_ref(), boot_writable) {
            effects.degrade(format!("/boot is not there: {why}"));
        }
    });
    let Some(data) = data else { return };
    // Before the growth, which takes seconds on a large card: a machine that loses power meanwhile must not start with
    // the same seed again.
    effects.on_disk("replacing the random seed", |effects| {
        if let Err(error) = entropy::load_and_replace(&boot::machine_file(SEED)) {
            effects.degrade(format!("no random seed is kept on /data: {error}"));
        }
    });
    effects.on_disk("growing /data", move |effects| match grow_data::file_system(&data) {
        Ok(Some(size)) => effects.log(format!("/data has grown to {size}")),
        Ok(None) => {}
        Err(error) => effects.degrade(format!("the file system of /data does not grow: {error}")),
    });
}
