//! Work that services need not wait for, in a thread that exits when it is done: mounting `/boot` (its file system is
//! three modules in most kernels, a third of a second under an emulator), the random seed (a write that has to
//! reach the disk), and growing the file system of `/data` (seconds on a large card).

use std::io;
use std::path::PathBuf;
use std::thread;

use super::boot;
use super::inbox::{Report, Reporter};
use crate::linux::block::Disk;
use crate::linux::{boot_mount, entropy, grow_data, process};

/// The random seed, a file of the machine on `/data`.
pub(super) const SEED: &str = "random-seed";

/// Input of the thread.
#[derive(Debug)]
pub(super) struct LateWork {
    /// The disk with `/boot`.
    pub disk: Option<Disk>,
    /// True if `/boot` is mounted writable.
    pub boot_writable: bool,
    /// The partition mounted on `/data`, if that is the disk's.
    pub data: Option<PathBuf>,
}

/// Starts the thread.
pub(super) fn start(work: LateWork, reporter: Reporter) -> io::Result<()> {
    thread::Builder::new()
        .name("late".to_owned())
        .stack_size(128 << 10)
        .spawn(move || run(&work, &reporter))
        .map(drop)
}

fn run(work: &LateWork, reporter: &Reporter) {
    // Lower priority: the services are starting now, and the time until the first one is ready counts.
    process::yield_to_services();
    let problem = |text| reporter.send(Report::Problem(text));
    if let Err(why) = boot_mount::mount(work.disk.as_ref(), work.boot_writable) {
        problem(format!("/boot is not there: {why}"));
    }
    let Some(data) = &work.data else { return };
    // Before the growth, which takes seconds on a large card: a machine that loses power meanwhile must not start with
    // the same seed again.
    if let Err(error) = entropy::load_and_replace(&boot::machine_file(SEED)) {
        problem(format!("no random seed is kept on /data: {error}"));
    }
    match grow_data::file_system(data) {
        Ok(Some(size)) => reporter.send(Report::Note(format!("/data has grown to {size}"))),
        Ok(None) => {}
        Err(error) => problem(format!("the file system of /data does not grow: {error}")),
    }
}
