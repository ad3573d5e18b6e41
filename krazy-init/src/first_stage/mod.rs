//! `/init` of the initramfs: finds the root named on the command line and hands over to its `/bin/init`.
//!
//! The init found there may be anybody's program. It starts with `/dev`, `/proc` and `/sys` mounted (a program
//! that is its own init should not need to know about mounts), standard streams on the console, and the arguments
//! the kernel passed. The initramfs is emptied, so its memory is free.
//!
//! Whatever goes wrong is said on the console, and the machine restarts: a trial of a slot whose root does not
//! start must end, and a machine that lost a disk for a moment deserves another try. A trial is told about in its
//! note, so that the slot that runs next can say why.
//!
//! Where the firmware cannot start a trial, the first stage does: see `launcher` and, for a trial with the kernel that
//! runs, `other_root`.

mod drivers;
mod launcher;
mod other_root;
mod root;
mod trial;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use krazy_boot::boot::cmdline::{CommandLine, LAUNCH_PARAMETER, ROOT_PARAMETER};
use krazy_boot::disk::trial_note::Stage;

use self::drivers::Drivers;
use self::trial::Trial;
use crate::console::Console;
use crate::linux::block::{Disk, PartUuid};
use crate::linux::modules::Parameters;
use crate::linux::power::{self, End};
use crate::linux::uevent::Uevents;
use crate::linux::{crash, mounts, watchdog};

/// How long the root's disk may take to appear: USB disks behind hubs need seconds.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a launcher waits for a card before it starts USB.
const OWN_DISK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the reason of a failure stays on the screen.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// Why the root could not be started.
#[derive(Debug, thiserror::Error)]
enum FirstStageError {
    /// A file system of the first stage itself.
    #[error("cannot mount {0}: {1}")]
    Mount(&'static str, std::io::Error),
    /// The command line is unusable.
    #[error("{0}")]
    CommandLine(String),
    /// Nothing with that signature came up.
    #[error("the disk of {ROOT_PARAMETER}={0} did not appear within {seconds} seconds; disks seen: {1}", seconds = DISK_TIMEOUT.as_secs())]
    NoRoot(String, String),
    /// It came up and is not a root.
    #[error("cannot mount the root {0}: {1}")]
    Root(PathBuf, String),
    /// It was to start another kernel.
    #[error(transparent)]
    Launch(#[from] launcher::LaunchError),
    /// It is tried with another kernel than its own, and cannot be.
    #[error("the root {0} cannot be tried with the kernel that runs: {1}")]
    OtherRoot(PathBuf, String),
    /// The move failed.
    #[error("cannot switch to the root: {0}")]
    Switch(std::io::Error),
    /// The root's init cannot be executed.
    #[error("cannot execute /bin/init: {0}")]
    Execute(std::io::Error),
}

/// Runs the first stage. Does not come back: it becomes `/bin/init`, or restarts the machine.
pub fn run(arguments: &[OsString]) -> ! {
    crash::guard();
    let mut trial = None;
    let error = match start(arguments, &mut trial) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut console = Console::open();
    console.log(&format!("{error}"));
    if let Some(trial) = trial {
        trial.failed(&error.to_string(), &mut console);
    }
    console.log(&format!("restarting in {} seconds", FAILURE_PAUSE.as_secs()));
    console.flush(FAILURE_PAUSE);
    std::thread::sleep(FAILURE_PAUSE);
    power::end(End::Reboot)
}

fn start(arguments: &[OsString], trial: &mut Option<Trial>) -> Result<Infallible, FirstStageError> {
    for row in mounts::FIRST_STAGE {
        root::ensure_folder(row.target).map_err(|error| FirstStageError::Mount(row.target, error))?;
        row.apply().map_err(|error| FirstStageError::Mount(row.target, error))?;
    }
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut line =
        CommandLine::parse(&text).map_err(|error| FirstStageError::CommandLine(error.to_string()))?;
    let mut console = Console::open();
    let quiet = line.has("quiet");

    let parameters = Parameters::from_command_line(line.as_str());
    let wanted = line.get(ROOT_PARAMETER).ok_or_else(|| {
        FirstStageError::CommandLine(format!("the kernel command line has no {ROOT_PARAMETER}= parameter"))
    })?;
    let mut device = if line.has(LAUNCH_PARAMETER) {
        drivers::load(Drivers::OwnDisks, &mut console, &parameters);
        wait_for(wanted, OWN_DISK_TIMEOUT).or_else(|_| {
            drivers::load(Drivers::Buses, &mut console, &parameters);
            wait_for(wanted, DISK_TIMEOUT)
        })?
    } else {
        drivers::load(Drivers::All, &mut console, &parameters);
        wait_for(wanted, DISK_TIMEOUT)?
    };
    launcher::run(&device, &line, &mut console)?;
    let mut own = None;
    if let Some(moved) = other_root::start_trial(&device, &line, &mut console) {
        own = Some(device.clone());
        line = moved;
    }
    *trial = Trial::of(&device, &line);
    if let Some(trial) = trial {
        trial.reached(Stage::FirstStage, &mut console);
    }
    if own.is_some() {
        device = wait_for(line.get(ROOT_PARAMETER).unwrap_or_default(), DISK_TIMEOUT)?;
        other_root::show(&line)
            .map_err(|error| FirstStageError::OtherRoot(device.clone(), error.to_string()))?;
    }
    let kind = line.get("rootfstype");
    root::mount(&device, kind).map_err(|why| FirstStageError::Root(device.clone(), why))?;
    if let Some(own) = own {
        other_root::lend_modules(&own, kind)
            .map_err(|why| FirstStageError::OtherRoot(device.clone(), why))?;
    }
    if let Some(trial) = trial {
        trial.reached(Stage::RootMounted, &mut console);
        if watchdog::is_wanted(&line) {
            trial::start_watchdog(Path::new(root::SYSROOT), parameters, &mut console);
        }
    }
    if !quiet {
        console.log(&format!("the root is {}", device.display()));
    }
    console.flush(Duration::from_millis(100));
    drop(console);
    root::switch().map_err(FirstStageError::Switch)?;
    let error = Command::new("/bin/init").args(arguments.iter().skip(1)).exec();
    Err(FirstStageError::Execute(error))
}

/// The device node of the root, as soon as the kernel shows it.
fn wait_for(wanted: &str, limit: Duration) -> Result<PathBuf, FirstStageError> {
    let find: Box<dyn Fn() -> Option<PathBuf>> = match wanted.strip_prefix("PARTUUID=") {
        Some(text) => {
            let id = PartUuid::parse(&text.to_ascii_lowercase()).ok_or_else(|| {
                FirstStageError::CommandLine(format!(
                    "{ROOT_PARAMETER}={wanted} is not of the form PARTUUID=1a2b3c4d-02"
                ))
            })?;
            Box::new(move || Disk::with_signature(id.signature)?.partition(id.number))
        }
        None if wanted.starts_with("/dev/") => {
            let node = PathBuf::from(wanted);
            Box::new(move || node.exists().then(|| node.clone()))
        }
        None => {
            return Err(FirstStageError::CommandLine(format!(
                "{ROOT_PARAMETER}={wanted} is neither PARTUUID=… nor a path below /dev"
            )));
        }
    };
    // Subscribed before the first look, so that nothing can appear unnoticed in between. Where the subscription
    // fails, the timeout of the wait makes it a slow poll.
    let uevents = Uevents::open().ok();
    let start = Instant::now();
    loop {
        if let Some(device) = find() {
            return Ok(device);
        }
        let Some(left) = limit.checked_sub(start.elapsed()) else {
            return Err(FirstStageError::NoRoot(wanted.to_owned(), root::disks()));
        };
        root::wait_for_change(uevents.as_ref(), left);
    }
}
