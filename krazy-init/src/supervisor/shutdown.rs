//! The shutdown of the machine after its services have exited. No failure here may prevent it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::boot::machine_file;
use super::disk_queue::DiskQueue;
use super::effect::{Effect, Effects};
use super::journal::Journal;
use super::late::SEED;
use super::services::Services;
use super::trial::Trial;
use super::wall_clock::WallClock;
use super::watchdog::WatchdogTimer;
use crate::linux::boot_mount::BOOT;
use crate::linux::data::{DATA, DataMount};
use crate::linux::power::{self, End};
use crate::linux::watchdog::{self, Feeder, Watchdog};
use crate::linux::{entropy, kernel_clock, mounts, process};

/// The reason of the last end; written at the start of each boot too, so that a power cut shows.
const LAST_END: &str = "last-end";

/// The content of that file while the machine runs.
const RUNNING: &str = "without notice: power was cut, or the kernel or the watchdog restarted the machine";

/// The time that tasks which wait for the disk may take once all services are down.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that processes which no service owns may take to die.
const STRAY_TIMEOUT: Duration = Duration::from_secs(3);

/// The time that the disks may take for what was written: gigabytes, on a slow card.
const WRITE_BACK_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The time that the slowest console may take for the last lines.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The end of the previous boot, and of this one.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    previous: Option<String>,
    /// True if `/data` is the disk's.
    has_data: bool,
    /// Set when all services are down: the way to end, and the time since the kernel's start at which the tasks that still
    /// wait for the disk are given up.
    ending: Option<(End, Duration)>,
}

impl Shutdown {
    /// Reads the record of the previous boot's end, if there is one, and replaces it: until [`Shutdown::record`], this boot
    /// counts as one that ended without notice.
    pub(super) fn begin(data: &DataMount) -> Self {
        let previous = fs::read_to_string(machine_file(LAST_END)).ok();
        // Durable within seconds by the file system's own commits; waiting for the disk here would delay every boot.
        if let Ok(mut file) = fs::File::create(machine_file(LAST_END)) {
            let _nowhere = file.write_all(RUNNING.as_bytes());
        }
        let previous = previous.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Shutdown { previous, has_data: matches!(data, DataMount::Disk(_)), ending: None }
    }

    /// The end of the previous boot, as far as it was recorded.
    pub(super) fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Records why the machine ends. Without a `/data` that can be written the reason is only on the console.
    pub(super) fn record(&self, end: End, reason: &str, effects: &mut Effects) {
        let text = format!("{end}: {reason}\n");
        effects.on_disk("recording the end", move |_| {
            let _nowhere = write_record(&machine_file(LAST_END), &text);
        });
    }

    /// Records that all services have exited.
    pub(super) fn services_down(&mut self, end: End, now: Duration) {
        // Repeated orders do not wait longer.
        let give_up_at = self.ending.map_or(now + DISK_TIMEOUT, |(_, give_up_at)| give_up_at);
        self.ending = Some((end, give_up_at));
    }

    /// The way to end the machine now: all services are down, and nothing waits for the disk any more, or for too long.
    pub(super) fn ending(&self, now: Duration, disk: &DiskQueue) -> Option<End> {
        let (end, give_up_at) = self.ending?;
        (disk.waiting().is_empty() || now >= give_up_at).then_some(end)
    }

    /// The time at which [`Shutdown::ending`] gives up the tasks that wait for the disk.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.ending.map(|(_, give_up_at)| give_up_at)
    }

    /// Ends the machine.
    pub(super) fn finish(
        self,
        end: End,
        mut services: Services,
        trial: Trial,
        clock: WallClock,
        mut watchdog: WatchdogTimer,
        mut journal: Journal,
    ) -> ! {
        // If anything hangs from here on, the hardware ends it; but not while a slow disk takes what was written.
        let feeder = watchdog.feed_for(WRITE_BACK_TIMEOUT);
        kill_strays();
        if self.has_data {
            clock.save_now();
            if let Err(error) = entropy::save(&machine_file(SEED)) {
                journal.log(&format!("no random seed is kept: {error}"));
            }
        }
        // While /boot is still mounted: the tables name sectors of its files.
        let mut effects = Effects::default();
        let synced = trial.sync_boot_tables(&mut effects);
        for effect in effects {
            if let Effect::Log(text) = effect {
                journal.log(&text);
            }
        }
        if let Err(error) = synced {
            journal.log(&format!("the boot loader's tables may not agree with {BOOT}: {error}"));
        }
        // Open files would keep /data from being unmounted.
        services.close();
        for target in [BOOT, DATA] {
            if mounts::is_mounted(target)
                && let Err(error) = mounts::unmount_or_freeze(target)
            {
                journal.log(&format!("cannot unmount {target}: {error}"));
            }
        }
        // While the watchdog is still fed: a file system that could not be unmounted may have much to write.
        rustix::fs::sync();
        // It is left counting for a restart, which may hang too.
        let watchdog = feeder.map(|feeder| feeder.and_then(Feeder::stop));
        if end != End::Reboot
            && let Some(watchdog) = watchdog
            && let Err(error) = watchdog.and_then(Watchdog::disarm)
        {
            let seconds = watchdog::TIMEOUT.as_secs();
            journal.log(&format!("the watchdog stays armed ({seconds} s): {error}"));
        }
        // Last: the steps above may have reported failures.
        journal.flush(CONSOLE_TIMEOUT);
        power::end(end)
    }
}

/// Replaces the record at `path`.
fn write_record(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A rename: a power cut leaves the old record, which is true then, or the new one.
    fs::rename(&new, path)
}

/// The message about tasks that the end of the machine does not wait for; `None` if there are none.
pub(super) fn given_up(disk: &DiskQueue) -> Option<String> {
    let first = disk.waiting().front()?;
    let more = match disk.waiting().len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let seconds = DISK_TIMEOUT.as_secs();
    Some(format!("the disk is too slow: {first}{more} has not finished within {seconds} s"))
}

/// Kills every process but init, and waits for their end: they hold files on `/data` open.
fn kill_strays() {
    let start = kernel_clock::since_boot();
    process::signal_everyone(libc::SIGKILL);
    while kernel_clock::since_boot() - start < STRAY_TIMEOUT {
        // A process that was killed counts as a child until it is reaped.
        while process::reap().is_some() {}
        if !has_children() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns true if init has children left. Kernel threads are not among them: their parent is `kthreadd`.
fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_ok()
}
