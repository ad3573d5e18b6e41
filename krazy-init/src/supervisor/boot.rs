//! From the root's first instruction to a machine that can run services. Nothing here is fatal: what cannot be had
//! is said, and the machine is degraded.

use std::fs;
use std::path::Path;
use std::time::Duration;

use krazy_boot::boot::cmdline::{CommandLine, LAUNCHED_PARAMETER};
use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::{self, Manifest};

use super::plan;
use crate::console::Console;
use crate::linux::block::Disk;
use crate::linux::data::{self, DataMount};
use crate::linux::modules::Parameters;
use crate::linux::{cgroup, grow, mounts, power, process, settings, watchdog};

/// What the machine turned out to be.
#[derive(Debug)]
pub struct Machine {
    /// What the root is.
    pub manifest: Manifest,
    /// The running slot, if the command line names one.
    pub slot: Option<Slot>,
    /// The disk the root is on.
    pub disk: Option<Disk>,
    /// Whether `/data` is the disk's.
    pub data: DataMount,
    /// The host name in use.
    pub hostname: String,
    /// How long a trial boot may take; `krazy.trial=SECONDS` on the command line.
    pub trial_limit: Option<Duration>,
    /// Whether another kernel started this one, and not the firmware.
    pub launched: bool,
    /// Whether the hardware watchdog is used.
    pub use_watchdog: bool,
    /// Whether only what matters is to be said.
    pub quiet: bool,
    /// Module parameters of the command line.
    pub parameters: Parameters,
    /// What is not as it should be.
    pub degraded: Vec<String>,
}

/// Another limit for trials, in seconds since the kernel's start.
const TRIAL_PARAMETER: &str = "krazy.trial";

/// Where `/data` may name the machine.
const HOSTNAME: &str = "hostname";

/// Brings the system up as far as services need it.
pub fn start(console: &mut Console) -> Machine {
    let mut degraded = Vec::new();
    let mut problem = |console: &mut Console, text: String| {
        console.say(&text);
        degraded.push(text);
    };
    let mut unmounted = Vec::new();
    for row in mounts::SYSTEM {
        if let Err(error) = row.apply() {
            unmounted.push(format!("cannot mount {}: {error}", row.target));
        }
    }
    if let Err(error) = mounts::link_devices() {
        unmounted.push(format!("there are no /dev/stdin and the like: {error}"));
    }
    // Before /dev was mounted there may have been no console to open.
    if console.descriptor().is_none() {
        *console = Console::open();
    }
    for text in unmounted {
        problem(console, text);
    }
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let parsed = CommandLine::parse(&line).ok();
    let quiet = parsed.as_ref().is_some_and(|line| line.has("quiet"));
    let use_watchdog = parsed.as_ref().is_none_or(watchdog::is_wanted);
    let trial_limit = parsed.as_ref().and_then(|line| line.get(TRIAL_PARAMETER)?.parse().ok());
    let launched = parsed.as_ref().is_some_and(|line| line.has(LAUNCHED_PARAMETER));
    let slot = parsed.as_ref().and_then(CommandLine::slot);
    if let Err(error) = power::take_ctrl_alt_del() {
        problem(console, format!("Ctrl-Alt-Del restarts without stopping services: {error}"));
    }
    if let Err(error) = process::raise_own_limits() {
        problem(console, format!("cannot raise the limit of descriptors: {error}"));
    }
    for text in settings::apply() {
        problem(console, text);
    }
    if let Err(error) = cgroup::prepare() {
        problem(console, format!("services have no cgroups: {error}"));
    }
    let manifest = read_manifest().unwrap_or_else(|why| {
        problem(console, format!("{why}; every program in {} runs with the defaults", plan::BIN));
        plan::manifest_of(Path::new(plan::BIN)).unwrap_or_else(|error| {
            problem(console, format!("cannot list {}: {error}", plan::BIN));
            plan::empty_manifest()
        })
    });
    let disk = Disk::of_mount("/");
    if let Some(disk) = &disk {
        match grow::partition(disk) {
            Ok(true) => {
                console.say(&format!("/data's partition now reaches to the end of {}", disk.node().display()))
            }
            Ok(false) => {}
            Err(error) => problem(console, format!("/data's partition does not grow: {error}")),
        }
    }
    let (data, is_new) =
        data::mount(disk.as_ref()).unwrap_or_else(|error| (DataMount::Temporary(error.to_string()), false));
    if is_new {
        problem(
            console,
            "/data was blank and has been made: it holds no credentials, so nobody can manage this device; \
             write an image to the disk to have some"
                .to_owned(),
        );
    }
    if let DataMount::Temporary(why) = &data {
        problem(console, format!("/data is temporary and will be lost: {why}"));
    }
    if let Err(error) = data::prepare_machine_folder() {
        problem(console, format!("/data/{} cannot be used: {error}", data::MACHINE_FOLDER));
    }
    let hostname = hostname(&manifest, |text| problem(console, text));
    if let Err(error) = settings::set_hostname(&hostname) {
        problem(console, format!("cannot set the host name to {hostname}: {error}"));
    }
    let parameters = Parameters::from_command_line(&line);
    Machine {
        manifest,
        slot,
        disk,
        data,
        hostname,
        trial_limit: trial_limit.map(Duration::from_secs),
        launched,
        use_watchdog,
        quiet,
        parameters,
        degraded,
    }
}

fn read_manifest() -> Result<Manifest, String> {
    let path = Path::new("/").join(manifest::PATH);
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Manifest::from_json(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The manifest's name unless `/data` has one.
fn hostname(manifest: &Manifest, mut problem: impl FnMut(String)) -> String {
    let path = machine_file(HOSTNAME);
    match fs::read_to_string(&path) {
        Ok(text) if settings::is_hostname(text.trim()) => return text.trim().to_owned(),
        Ok(text) => problem(format!("{}: `{}` is not a host name", path.display(), text.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problem(format!("{}: {error}", path.display())),
    }
    manifest.hostname.clone()
}

/// A file of the machine's own on `/data`.
pub fn machine_file(name: &str) -> std::path::PathBuf {
    Path::new(data::DATA).join(data::MACHINE_FOLDER).join(name)
}
