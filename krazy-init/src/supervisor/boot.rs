//! The preparation of the machine, from the root's first instruction until it can run services. Nothing here is fatal: what fails is
//! reported, and the machine is degraded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krazy_boot::boot::cmdline::{CommandLine, LAUNCHED_PARAMETER};
use krazy_boot::disk::slot::Slot;
use krazy_boot::error_chain::system_text;
use krazy_boot::manifest::{self, Manifest, instructions, sysctl};

use super::journal::Journal;
use super::{plan, refusal};
use crate::linux::block::Disk;
use crate::linux::data::{self, DataMount};
use crate::linux::identity::{self, Kept};
use crate::linux::modules::Parameters;
use crate::linux::{
    autoload, cgroup, format_request, grow_data, mounts, power, process, run_files, settings, watchdog,
};

/// Facts about the machine, found at its start and never changed.
#[derive(Debug)]
pub(super) struct Machine {
    /// The root's manifest.
    pub manifest: Manifest,
    /// The running slot, if the command line names one.
    pub slot: Option<Slot>,
    /// The disk the root is on.
    pub disk: Option<Disk>,
    /// Copies of that disk, any of which may be the one that was booted.
    pub twins: Vec<Disk>,
    /// The file system of `/data`.
    pub data: DataMount,
    /// True if it was formatted on request.
    pub data_formatted: bool,
    /// The host name in use.
    pub hostname: String,
    /// The time that a trial may take; `krazy.trial=SECONDS` on the command line.
    pub trial_limit: Option<Duration>,
    /// True if another kernel started this one, and not the firmware.
    pub launched: bool,
    /// True if the hardware watchdog is used.
    pub use_watchdog: bool,
    /// Module parameters of the command line.
    pub parameters: Parameters,
}

impl Machine {
    /// Name, version and slot of the appliance, for messages.
    pub(super) fn title(&self) -> String {
        let slot = self.slot.map_or_else(|| "without slots".to_owned(), |slot| format!("slot {slot}"));
        format!("{} {} {slot}", self.manifest.name, self.manifest.version)
    }
}

/// The next step with a `/data` that is damaged or lost.
const DATA_HELP: &str = "; help: `cargo krazy data check HOST` shows its condition, `cargo krazy data format HOST` makes a \
                         new one and keeps the credentials";

/// The parameter with another time limit for trials, in seconds since the kernel's start.
const TRIAL_PARAMETER: &str = "krazy.trial";

/// The file of the machine on `/data` with its identifier.
const MACHINE_ID: &str = "machine-id";

/// The file of the machine on `/data` that may hold another host name.
const HOSTNAME: &str = "hostname";

/// Brings the system up as far as services need it.
pub(super) fn start(journal: &mut Journal) -> Machine {
    mount_system(journal);
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let parsed = CommandLine::parse(&line).ok();
    journal.set_quiet(parsed.as_ref().is_some_and(|line| line.has("quiet")));
    // A root whose manifest is damaged still starts krazy-admind, by which it can be replaced.
    let manifest = read_manifest().unwrap_or_else(|error| {
        journal.degrade(format!("{error}; every program in {} runs with the defaults", plan::BIN));
        plan::manifest_of(Path::new(plan::BIN)).unwrap_or_else(|error| {
            journal.degrade(format!("cannot list {}: {error}", plan::BIN));
            plan::empty_manifest()
        })
    });
    prepare_kernel(&manifest, journal);
    for text in settings::apply_requested(&manifest.sysctl, Path::new(settings::PROC_SYS)) {
        journal.degrade(text);
    }
    // By the mounted root: names such as `sda` depend on the order in which drivers find the disks.
    let disk = Disk::of_mount("/");
    let twins = disk.as_ref().map(Disk::twins).unwrap_or_default();
    if let Some(disk) = disk.as_ref().filter(|_| !twins.is_empty()) {
        journal.degrade(refusal::ambiguous_disk(disk, &twins));
    }
    // Of two copies of a disk, the other one may be the device's.
    let formatted = disk
        .as_ref()
        .is_some_and(|disk| twins.is_empty() && format_on_request(disk, &manifest.name, journal));
    let data = prepare_data(disk.as_ref(), formatted, journal);
    let hostname = hostname(&manifest, journal);
    if let Err(error) = settings::set_hostname(&hostname) {
        journal.degrade(format!("cannot set the host name to {hostname}: {error}"));
    }
    // Without the file a program that needs one is told by its signal alone.
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let lacking = instructions::missing(&manifest.instructions, &cpuinfo);
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        journal.degrade(format!(
            "programs may end with SIGILL: they were compiled for a processor with {lacking}"
        ));
    }
    if let Err(error) = run_files::write_hosts(&hostname, &manifest.hosts) {
        journal.degrade(format!("programs do not find the address of {hostname}: {error}"));
    }
    if let Err(error) = run_files::write_machine_id(&machine_file(MACHINE_ID)) {
        journal.degrade(format!("the machine has no identifier: {}", system_text(&error)));
    }
    let trial_limit = parsed.as_ref().and_then(|line| line.get(TRIAL_PARAMETER)?.parse().ok());
    Machine {
        manifest,
        slot: parsed.as_ref().and_then(CommandLine::slot),
        disk,
        twins,
        data,
        data_formatted: formatted,
        hostname,
        trial_limit: trial_limit.map(Duration::from_secs),
        launched: parsed.as_ref().is_some_and(|line| line.has(LAUNCHED_PARAMETER)),
        use_watchdog: parsed.as_ref().is_none_or(watchdog::is_wanted),
        parameters: Parameters::from_command_line(&line),
    }
}

/// Mounts the file systems of the kernel, and finds the console in them.
fn mount_system(journal: &mut Journal) {
    let mut problems = Vec::new();
    for row in mounts::SYSTEM {
        if let Err(error) = row.apply() {
            problems.push(format!("cannot mount {}: {error}", row.target));
        }
    }
    if let Err(error) = mounts::link_devices() {
        problems.push(format!("there are no /dev/stdin and the like: {error}"));
    }
    // Reported only now: without /dev there may be no console.
    journal.retry_open();
    for text in problems {
        journal.degrade(text);
    }
}

/// Sets the kernel's parameters that must be in force before the first service.
fn prepare_kernel(manifest: &Manifest, journal: &mut Journal) {
    if let Err(error) = power::take_ctrl_alt_del() {
        journal.degrade(format!("Ctrl-Alt-Del restarts without stopping services: {error}"));
    }
    // Before the services: each of them takes two pipes and two files of init.
    if let Err(error) = process::raise_own_limits() {
        journal.degrade(format!("cannot raise the limit of descriptors: {error}"));
    }
    let needs_namespaces = manifest.services.iter().any(|service| !service.settings.sandbox.namespaces);
    for text in settings::apply(&manifest.sysctl, needs_namespaces) {
        journal.degrade(text);
    }
    if !manifest.sysctl.keys().any(|name| sysctl::path(name).as_deref() == Some(autoload::SETTING)) {
        autoload::take_over();
    }
    if let Err(error) = cgroup::prepare() {
        journal.degrade(format!("services have no cgroups: {error}"));
    }
}

/// Formats `/data` if that was requested. Returns true if it was.
fn format_on_request(disk: &Disk, appliance: &str, journal: &mut Journal) -> bool {
    match format_request::obey(disk, appliance) {
        Ok(true) => {
            journal.log("/data has been formatted, as requested");
            true
        }
        Ok(false) => false,
        Err(error) => {
            journal.degrade(format!("/data is to be formatted, which failed: {error}"));
            false
        }
    }
}

/// Mounts `/data`. Its partition grows first: the file system in it cannot grow beyond.
fn prepare_data(disk: Option<&Disk>, formatted: bool, journal: &mut Journal) -> DataMount {
    if let Some(disk) = disk {
        match grow_data::partition(disk) {
            Ok(true) => {
                journal.log(&format!("/data's partition now reaches to the end of {}", disk.node().display()))
            }
            Ok(false) => {}
            Err(error) => journal.degrade(format!("/data's partition does not grow: {error}")),
        }
    }
    let (data, is_new) =
        data::mount(disk).unwrap_or_else(|error| (DataMount::Temporary(error.to_string()), false));
    if is_new {
        journal.log("/data was blank and has been formatted");
    }
    if let DataMount::Temporary(why) = &data {
        let help = if disk.is_some() { DATA_HELP } else { "" };
        journal.degrade(format!("/data is temporary and will be lost: {why}{help}"));
    }
    if let DataMount::Disk(node) = &data
        && let Some(superblock) = data::superblock(node)
        && superblock.has_errors
    {
        let last = superblock.last_error.map(|error| format!(", the last one in {}", error.function));
        let last = last.unwrap_or_default();
        journal.degrade(format!("/data is damaged: the kernel has found errors{last}{DATA_HELP}"));
    }
    if let Err(error) = data::prepare_machine_directory() {
        let reason = system_text(&error);
        journal.degrade(format!("/data/{} cannot be used: {reason}{DATA_HELP}", data::MACHINE_DIRECTORY));
    }
    if let Some(disk) = disk {
        keep_credentials(disk, formatted, journal);
    }
    data
}

/// Keeps the copies of the credentials up to date, or restores the credentials from them. Failures are no more than
/// degradations: the services run, and may be all that a machine without a host needs.
fn keep_credentials(disk: &Disk, formatted: bool, journal: &mut Journal) {
    match identity::keep(disk) {
        Ok(Kept::Copied) => {}
        Ok(Kept::Restored(directory)) if formatted && directory == Path::new(data::DATA) => {
            journal.log("the credentials were restored to the new /data");
        }
        Ok(Kept::Restored(directory)) => journal.degrade(format!(
            "the credentials on /data were lost or damaged; they were restored to {} from their copy outside /data",
            directory.display()
        )),
        Ok(Kept::Missing) => journal.degrade(
            "/data holds no credentials, so nobody can manage this device; \
             help: write an image to the disk with `cargo krazy image -o DISK`"
                .to_owned(),
        ),
        Err(error) => journal.degrade(format!("the credentials have no copy outside /data: {error}")),
    }
}

/// The failure to read the root's manifest.
#[derive(Debug, thiserror::Error)]
enum ManifestError {
    #[error("{}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    #[error("{}: {}", .0.display(), .1)]
    Parse(PathBuf, #[source] manifest::ManifestError),
}

fn read_manifest() -> Result<Manifest, ManifestError> {
    let path = Path::new("/").join(manifest::PATH);
    let bytes = fs::read(&path).map_err(|error| ManifestError::Read(path.clone(), error))?;
    Manifest::from_json(&bytes).map_err(|error| ManifestError::Parse(path, error))
}

/// The manifest's name unless `/data` has one.
fn hostname(manifest: &Manifest, journal: &mut Journal) -> String {
    let path = machine_file(HOSTNAME);
    match fs::read_to_string(&path) {
        Ok(text) if settings::is_hostname(text.trim()) => return text.trim().to_owned(),
        Ok(text) => journal.degrade(format!("{}: `{}` is not a host name", path.display(), text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => journal.degrade(format!("{}: {}", path.display(), system_text(&error))),
    }
    manifest.hostname.clone()
}

/// A file of the machine's own on `/data`.
pub(super) fn machine_file(name: &str) -> PathBuf {
    Path::new(data::DATA).join(data::MACHINE_DIRECTORY).join(name)
}
