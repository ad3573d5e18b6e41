//! The end: services are down, now the rest. Nothing here may keep the machine from ending.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use super::boot::machine_file;
use super::late::SEED;
use super::runtime::Runtime;
use crate::linux::boot_mount::BOOT;
use crate::linux::data::{DATA, DataMount};
use crate::linux::power::{self, End};
use crate::linux::watchdog::{self, Feeder, Watchdog};
use crate::linux::{entropy, kernel_clock, mounts, process};

/// Says how the last boot ended; written at the start of each boot, so that a power cut shows.
const LAST_END: &str = "last-end";

/// What stands there while the machine runs.
const RUNNING: &str = "without notice: power was cut, or the kernel or the watchdog restarted the machine";

/// How long strays may take to die.
const STRAYS: Duration = Duration::from_secs(3);

/// How long the disks may take for what was written: gigabytes, on a slow card.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The slowest console is given this long for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How the previous boot ended, if it left word; from now on it is this boot's that is unknown.
pub fn take_previous_end() -> Option<String> {
    let text = fs::read_to_string(machine_file(LAST_END)).ok();
    // Durable within seconds by the file system's own commits; waiting for the disk here would delay every boot.
    if let Ok(mut file) = fs::File::create(machine_file(LAST_END)) {
        let _nowhere = file.write_all(RUNNING.as_bytes());
    }
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Leaves word of why the machine ends. Without a `/data` that can be written there is nowhere to leave it.
pub fn record(reason: &str) {
    let path = machine_file(LAST_END);
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&new)?;
        file.write_all(format!("{reason}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    let _nowhere = write();
}

/// Ends the machine.
pub fn finish(mut runtime: Runtime, end: End) -> ! {
    // Whatever hangs from here on, the hardware ends it; but not while a slow disk takes what was written.
    let feeder = runtime.watchdog.take().map(|watchdog| watchdog.feed_for(LONGEST));
    let start = kernel_clock::since_boot();
    process::signal_everyone(libc::SIGKILL);
    while kernel_clock::since_boot() - start < STRAYS {
        while process::reap().is_some() {}
        if !has_children() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if matches!(runtime.machine.data, DataMount::Disk(_)) {
        runtime.save_clock();
        if let Err(error) = entropy::save(&machine_file(SEED)) {
            runtime.console.say(&format!("no random seed is kept: {error}"));
        }
    }
    if let Err(why) = runtime.sync_boot_tables() {
        runtime.console.say(&format!("the boot loader's tables may not follow {BOOT}: {why}"));
    }
    // Kept output holds files on /data open.
    runtime.units.clear();
    for target in [BOOT, DATA] {
        if mounts::is_mounted(target)
            && let Err(error) = mounts::unmount_or_freeze(target)
        {
            runtime.console.say(&format!("cannot unmount {target}: {error}"));
        }
    }
    rustix::fs::sync();
    // Left counting for a restart, which may hang too.
    let watchdog = feeder.map(|feeder| feeder.and_then(Feeder::stop));
    if end != End::Reboot
        && let Some(watchdog) = watchdog
        && let Err(error) = watchdog.and_then(Watchdog::disarm)
    {
        runtime
            .console
            .say(&format!("the watchdog stays armed ({} s): {error}", watchdog::TIMEOUT.as_secs()));
    }
    runtime.console.flush(LAST_LINES);
    power::end(end)
}

/// Whether init has children left; kernel threads are nobody's of its.
fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_ok()
}
