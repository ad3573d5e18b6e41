//! `/init` of the initramfs: finds the root named on the command line and hands over to its `/bin/init`.
//!
//! That init may be any program. It starts with `/dev`, `/proc` and `/sys` mounted (a program that is its own init should
//! not need to mount anything), its standard streams on the console, and the arguments that the kernel passed. The
//! initramfs is emptied, because its memory stays in use as long as it has files.
//!
//! A failure is printed on the console, and the machine restarts: the trial of a slot whose root does not start must end,
//! a confirmed slot whose root does not start gives way to the other one, and a disk that was missing for a moment may be
//! back. The reason goes to the trial's note, for the slot that runs next.
//!
//! | module | is |
//! |---|---|
//! | `drivers` | the kernel modules that lead to the root's disk |
//! | `root` | mounting the root and moving over to it |
//! | `trial` | the stage that a boot on trial has reached |
//! | `fallback` | the way out of a confirmed slot that does not start |
//! | `launcher` | where the firmware cannot start a trial: starting the other slot's kernel |
//! | `root_trial` | the same for the other slot's root, with the running kernel |

mod drivers;
mod fallback;
mod launcher;
mod root;
mod root_trial;
mod trial;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use krazy_boot::boot::cmdline::{CommandLine, CommandLineError, LAUNCH_PARAMETER, ROOT_PARAMETER};
use krazy_boot::disk::trial_note::Stage;

use self::drivers::{Drivers, Scope};
use self::fallback::Fallback;
use self::root::MountRootError;
use self::root_trial::RootTrialError;
use self::trial::Trial;
use crate::console::Console;
use crate::linux::block::{Disk, PartUuid};
use crate::linux::modules::Parameters;
use crate::linux::power::{self, End};
use crate::linux::uevent::Uevents;
use crate::linux::{crash, mounts, watchdog};

/// The longest wait for the root's disk. USB disks behind hubs take seconds.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest wait of a launcher for an SD card before it starts USB.
const OWN_DISK_TIMEOUT: Duration = Duration::from_secs(3);

/// The time that the reason of a failure stays on the screen.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// The reason why the root's init does not run.
#[derive(Debug, thiserror::Error)]
enum FirstStageError {
    /// A file system of the first stage itself cannot be mounted.
    #[error("cannot mount {0}: {1}")]
    Mount(&'static str, io::Error),
    /// The command line is malformed.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The command line names no root.
    #[error("the kernel command line has no {ROOT_PARAMETER}= parameter")]
    NoRootParameter,
    /// The command line names the root in an unknown form.
    #[error("{ROOT_PARAMETER}={0} is neither PARTUUID=1a2b3c4d-02 nor a path below /dev")]
    RootParameter(String),
    /// The root's disk did not appear.
    #[error("the disk of {ROOT_PARAMETER}={0} did not appear within {seconds} seconds; disks seen: {1}", seconds = DISK_TIMEOUT.as_secs())]
    NoRoot(String, String),
    /// The root cannot be mounted.
    #[error("cannot mount the root {0}: {1}")]
    Root(PathBuf, #[source] MountRootError),
    /// A launcher did not start the other kernel.
    #[error(transparent)]
    Launch(#[from] launcher::LaunchError),
    /// The root cannot be tried with another kernel than its own.
    #[error("the root {0} cannot be tried with the running kernel: {1}")]
    RootTrial(PathBuf, #[source] RootTrialError),
    /// The root cannot be made `/`.
    #[error("cannot switch to the root: {0}")]
    Switch(io::Error),
    /// The root's init cannot be executed.
    #[error("cannot execute /bin/init: {0}")]
    Execute(io::Error),
}

/// Runs the first stage. Does not return: it becomes `/bin/init`, or restarts the machine.
pub(crate) fn run(arguments: &[OsString]) -> ! {
    crash::install_handlers();
    let mut boot = SlotBoot::default();
    let error = match start(arguments, &mut boot) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut console = Console::open();
    console.log(&error.to_string());
    if let Some(trial) = boot.trial {
        trial.failed(&error.to_string(), &mut console);
    } else if let Some(fallback) = boot.fallback {
        fallback.prepare(&error, &mut console);
    }
    console.log(&format!("restarting in {} seconds", MESSAGE_TIME.as_secs()));
    console.flush(MESSAGE_TIME);
    std::thread::sleep(MESSAGE_TIME);
    power::end(End::Reboot)
}

/// The slot that boots, as far as a failure concerns it.
#[derive(Debug, Default)]
struct SlotBoot {
    /// Its trial, if it is on one.
    trial: Option<Trial>,
    /// The way out, if it is the confirmed slot.
    fallback: Option<Fallback>,
}

fn start(arguments: &[OsString], boot: &mut SlotBoot) -> Result<Infallible, FirstStageError> {
    for row in mounts::FIRST_STAGE {
        mounts::create_directory(row.target).map_err(|error| FirstStageError::Mount(row.target, error))?;
        row.apply().map_err(|error| FirstStageError::Mount(row.target, error))?;
    }
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut line = CommandLine::parse(&text)?;
    let mut console = Console::open();
    let quiet = line.has("quiet");

    let parameters = Parameters::from_command_line(line.as_str());
    let named = line.get(ROOT_PARAMETER).ok_or(FirstStageError::NoRootParameter)?;
    // No bus driver for a launcher if the SD card is enough: kexec does not reset the devices behind a bus.
    let (scope, limit) = match line.has(LAUNCH_PARAMETER) {
        true => (Scope::OwnDisks, OWN_DISK_TIMEOUT),
        false => (Scope::All, DISK_TIMEOUT),
    };
    let mut drivers = Drivers::start(scope, parameters.clone(), &mut console);
    let mut device = match wait_for(named, limit, &mut drivers, &mut console) {
        Err(FirstStageError::NoRoot(..)) if scope == Scope::OwnDisks => {
            drivers.allow_all();
            wait_for(named, DISK_TIMEOUT, &mut drivers, &mut console)?
        }
        found => found?,
    };
    // The other slot's kernel first. Only where it cannot be started is its root tried with this one.
    launcher::run(&device, &line, &mut console)?;
    let mut own = None;
    if let Some(moved) = root_trial::start(&device, &line, &mut console) {
        own = Some(device.clone());
        line = moved;
    }
    // Recorded before the first step of the trial that may hang or fail.
    boot.trial = Trial::of(&device, &line);
    if let Some(trial) = &mut boot.trial {
        trial.reached(Stage::FirstStage, &mut console);
    }
    if let Some(reason) = line.unstarted() {
        trial::record_unstarted(&device, &line, reason, &mut console);
    }
    if own.is_some() {
        let named = line.get(ROOT_PARAMETER).unwrap_or_default();
        device = wait_for(named, DISK_TIMEOUT, &mut drivers, &mut console)?;
        root_trial::replace_command_line(&line)
            .map_err(|error| FirstStageError::RootTrial(device.clone(), error))?;
    }
    let kind = line.get("rootfstype");
    boot.fallback = Fallback::of(&device, &line);
    root::mount(&device, root::SYSROOT, kind)
        .map_err(|error| FirstStageError::Root(device.clone(), error))?;
    if let Some(own) = own {
        root_trial::provide_modules(&own, kind)
            .map_err(|error| FirstStageError::RootTrial(device.clone(), error))?;
    }
    if let Some(trial) = &mut boot.trial {
        trial.reached(Stage::RootMounted, &mut console);
        // Not earlier: its driver may be a module of the root that has just been mounted.
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

/// Returns the device node of the root, as soon as the kernel lists it. Loads the drivers of devices that appear.
fn wait_for(
    named: &str,
    limit: Duration,
    drivers: &mut Drivers,
    console: &mut Console,
) -> Result<PathBuf, FirstStageError> {
    let find: Box<dyn Fn() -> Option<PathBuf>> = match named.strip_prefix("PARTUUID=") {
        Some(text) => {
            let id = PartUuid::parse(&text.to_ascii_lowercase())
                .ok_or_else(|| FirstStageError::RootParameter(named.to_owned()))?;
            Box::new(move || Disk::with_signature(id.signature)?.partition(id.number))
        }
        None if named.starts_with("/dev/") => {
            let node = PathBuf::from(named);
            Box::new(move || node.exists().then(|| node.clone()))
        }
        None => return Err(FirstStageError::RootParameter(named.to_owned())),
    };
    // Subscribed before the first search, so that no disk can appear unnoticed in between. If the subscription fails,
    // the timeout of the wait makes it a slow poll.
    let uevents = Uevents::open().ok();
    let (start, mut loading) = (Instant::now(), Duration::ZERO);
    loop {
        // Does not count: a controller may take longer than the limit, and shows its disks only afterwards.
        let before = Instant::now();
        drivers.load_for_devices(console);
        loading += before.elapsed();
        if let Some(device) = find() {
            return Ok(device);
        }
        let Some(left) = limit.checked_sub(start.elapsed().saturating_sub(loading)) else {
            return Err(FirstStageError::NoRoot(named.to_owned(), root::disks()));
        };
        root::wait_for_change(uevents.as_ref(), left);
    }
}
