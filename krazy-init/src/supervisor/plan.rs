//! The plan of what is run: the manifest with every default resolved, and the problems found in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krazy_boot::disk::slot::Slot;
use krazy_boot::manifest::checks::Checks;
use krazy_boot::manifest::network::NetworkSettings;
use krazy_boot::manifest::ports::{ADMIND, PortRules};
use krazy_boot::manifest::sandbox::Sandbox;
use krazy_boot::manifest::{
    CONTROL_GROUP, DISK_FORMAT, FORMAT, Kernel, Manifest, Program, Ready, Service, ServiceSettings, accounts,
    sysfs,
};

use super::backoff;
use super::device_directories::{self, DeviceDirectories};
use super::device_groups::DeviceGroups;
use super::state::{After, Milestone, Rules};
use crate::linux::capabilities::Capabilities;
use crate::linux::cgroup::Limits;
use crate::linux::launch::Rights;
use crate::linux::{cgroup, data, readiness, signals};

/// The directory of programs.
pub(super) const BIN: &str = "/bin";

/// The `PATH` of services: programs, and the client of init.
const PATH: &str = "/bin:/sbin";

/// The program in that directory that is not a service.
const INIT: &str = "init";

/// Everything needed to start one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// Its name.
    pub name: String,
    /// The file to execute.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its HOME.
    pub home: PathBuf,
    /// Its directory in `/run`.
    pub runtime_directory: PathBuf,
    /// The directory that becomes its `/dev`.
    pub device_directory: PathBuf,
    /// User, group and capabilities.
    pub rights: Rights,
    /// Further groups.
    pub groups: Vec<u32>,
    /// True if its output is kept on `/data`.
    pub persistent_log: bool,
    /// Its restrictions.
    pub sandbox: Sandbox,
    /// True if its sandbox lets it write the files of sysfs that it was given.
    pub writes_sysfs: bool,
    /// The ports that it may bind.
    pub ports: PortRules,
    /// Its resource limits.
    pub limits: Limits,
    /// The condition under which it counts as started.
    pub ready: Ready,
    /// Its checks.
    pub checks: Checks,
    /// The signal that asks it to exit.
    pub stop_signal: i32,
}

/// All services, by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Everything needed to start each.
    pub specs: Vec<Spec>,
    /// The rules of each for the state machine.
    pub rules: Vec<Rules>,
    /// Requests of the manifest that cannot be satisfied.
    pub problems: Vec<String>,
    /// The groups that own device nodes.
    pub devices: DeviceGroups,
    /// The services' own `/dev`.
    pub device_directories: DeviceDirectories,
}

impl Plan {
    /// Tells every service the running slot, in the variable `KRAZY_SLOT`: services cannot read the kernel command line.
    pub(super) fn announce_slot(&mut self, slot: Slot) {
        const VARIABLE: &str = "KRAZY_SLOT";
        for Spec { environment, .. } in &mut self.specs {
            if environment.iter().all(|(key, _)| key != VARIABLE) {
                environment.push((VARIABLE.to_owned(), slot.to_string()));
            }
        }
    }
}

/// Resolves a manifest.
pub(super) fn plan(manifest: &Manifest) -> Plan {
    let uids = accounts::of(manifest);
    let all_patterns = manifest.services.iter().flat_map(|service| patterns(&service.settings));
    let mut plan = Plan { devices: DeviceGroups::new(all_patterns), ..Plan::default() };
    let services = || manifest.services.iter().map(|service| (service.name.as_str(), &service.settings));
    for service in &manifest.services {
        let user = accounts::user(service).to_owned();
        let name = &service.name;
        let (settings, checks) = (&service.settings, &service.checks);
        let uid = uids.get(&user).copied().unwrap_or_default();
        let home = Path::new(data::DATA).join(accounts::home(service));
        let runtime_directory = Path::new("/run").join(accounts::runtime_directory(service));
        // A manifest of a newer host may have settings unknown to this init; the service still runs.
        let stop_signal = signals::parse(&settings.stop_signal).unwrap_or_else(|| {
            let text =
                format!("service {name}: unknown stop-signal `{}`, TERM is used", settings.stop_signal);
            plan.problems.push(text);
            libc::SIGTERM
        });
        let mut after = Vec::new();
        for dependency in &settings.after {
            match after_named(dependency, manifest) {
                Some(known) => after.push(known),
                None => {
                    plan.problems.push(format!("service {name}: there is no `{dependency}` to start after"))
                }
            }
        }
        let capabilities = Capabilities::named(&settings.capabilities).unwrap_or_else(|unknown| {
            plan.problems.push(format!("service {name}: there is no capability `{unknown}`; it gets none"));
            Capabilities::default()
        });
        let group = |name: &String| match name.as_str() {
            CONTROL_GROUP => accounts::CONTROL_GID,
            name => uids.get(name).copied().unwrap_or_default(),
        };
        let groups = settings.groups.iter().map(group).chain(plan.devices.of(&patterns(settings))).collect();
        if let Some(wrong) = settings.sysfs.iter().find(|text| sysfs::pattern(text).is_none()) {
            plan.problems.push(format!("service {name}: files of sysfs like `{wrong}` are not for services"));
        }
        plan.rules.push(Rules {
            name: name.clone(),
            after,
            start: settings.start,
            restart: settings.restart,
            stop_timeout: Duration::from_secs(settings.stop_timeout.into()),
            required: settings.required,
            announces_ready: settings.ready != Ready::Started || checks.http.is_some(),
            watchdog: checks.watchdog.map(seconds),
            is_checked: checks.health.is_some(),
            stable_after: stable_after(checks),
        });
        let sandbox = if uid == 0 { Sandbox::NONE } else { settings.sandbox };
        if sandbox.private_devices {
            plan.device_directories.add_service(name, &settings.devices);
        }
        plan.specs.push(Spec {
            name: name.clone(),
            program: Path::new(BIN).join(name),
            arguments: settings.args.clone(),
            environment: environment(service, &user, &home, &runtime_directory),
            directory: settings.workdir.as_ref().map_or_else(|| home.clone(), PathBuf::from),
            home,
            runtime_directory,
            device_directory: device_directories::of(name, &settings.devices),
            rights: Rights { uid, capabilities, open_files: settings.file_limit },
            groups,
            persistent_log: settings.persistent_log,
            sandbox,
            writes_sysfs: !settings.sysfs.is_empty(),
            ports: PortRules::new(name, services()),
            limits: Limits {
                memory: match settings.memory_limit {
                    Some(limit) => Some(limit.0),
                    None if checks.unlimited_memory => None,
                    None => Some(cgroup::default_memory()),
                },
                tasks: settings.task_limit,
                cpu_weight: settings.cpu_weight,
            },
            ready: settings.ready,
            checks: checks.clone(),
            stop_signal,
        });
    }
    plan
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// The time for which a service must be good. Before one interval of its watchdog has passed, nothing is known about it.
fn stable_after(checks: &Checks) -> Duration {
    let wanted = checks.stable_after.map_or(backoff::STABLE_AFTER, seconds);
    wanted.max(checks.watchdog.map(seconds).unwrap_or_default())
}

/// The patterns of device nodes and files that a service may use.
fn patterns(settings: &ServiceSettings) -> Vec<String> {
    let files = settings.sysfs.iter().filter_map(|text| sysfs::pattern(text));
    settings.devices.iter().cloned().chain(files.map(|pattern| format!("/sys/{pattern}"))).collect()
}

fn after_named(name: &str, manifest: &Manifest) -> Option<After> {
    match name {
        "network" => Some(After::Milestone(Milestone::Network)),
        "clock" => Some(After::Milestone(Milestone::Clock)),
        "data" => Some(After::Milestone(Milestone::Data)),
        _ => manifest.services.iter().position(|service| service.name == name).map(After::Service),
    }
}

/// The base environment, and the service's own, which wins.
/// Source of STATE_DIRECTORY and RUNTIME_DIRECTORY: systemd.exec(5).
fn environment(
    service: &Service,
    user: &str,
    home: &Path,
    runtime_directory: &Path,
) -> Vec<(String, String)> {
    let Service { settings, checks, .. } = service;
    let (home, runtime_directory) = (home.to_string_lossy(), runtime_directory.to_string_lossy());
    let base = [
        ("PATH", PATH),
        ("HOME", &home),
        ("USER", user),
        ("LOGNAME", user),
        ("STATE_DIRECTORY", &home),
        ("RUNTIME_DIRECTORY", &runtime_directory),
    ];
    let notifies = settings.ready == Ready::Notify || checks.watchdog.is_some();
    let notify = notifies.then_some(("NOTIFY_SOCKET", readiness::SOCKET));
    // Source: sd_watchdog_enabled(3). The process adds WATCHDOG_PID.
    let watchdog = checks.watchdog.map(|limit| (u64::from(limit) * 1_000_000).to_string());
    let watchdog = watchdog.as_deref().map(|text| ("WATCHDOG_USEC", text));
    base.into_iter()
        .chain(notify)
        .chain(watchdog)
        .filter(|(key, _)| !settings.env.contains_key(*key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .chain(settings.env.iter().map(|(key, value)| (key.clone(), value.clone())))
        .collect()
}

/// A manifest for a root that has none: every executable in `bin` but init is a service with the defaults.
pub(super) fn manifest_of(bin: &Path) -> std::io::Result<Manifest> {
    let mut services = Vec::new();
    for entry in fs::read_dir(bin)? {
        let entry = entry?;
        let metadata = fs::metadata(entry.path());
        let executable = metadata.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if let Ok(name) = entry.file_name().into_string()
            && executable
            && name != INIT
        {
            // The management service needs root. A manifest has this setting.
            let user = (name == ADMIND).then(|| accounts::ROOT.to_owned());
            services.push(Service {
                checks: Checks::default(),
                name,
                program: unknown_program(),
                settings: ServiceSettings { user, ..ServiceSettings::default() },
            });
        }
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Manifest { services, ..empty_manifest() })
}

/// A manifest that names nothing.
pub(crate) fn empty_manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        disk_format: DISK_FORMAT,
        name: "appliance".to_owned(),
        version: "unknown".to_owned(),
        board: std::env::consts::ARCH.to_owned(),
        build_id: String::new(),
        hostname: "krazy".to_owned(),
        kernel: Kernel { release: String::new(), origin: String::new(), sha256: String::new() },
        init: unknown_program(),
        services: Vec::new(),
        boot_writable: false,
        modules: Vec::new(),
        network: NetworkSettings::default(),
        hosts: BTreeMap::new(),
        instructions: Vec::new(),
        sysctl: BTreeMap::new(),
    }
}

fn unknown_program() -> Program {
    Program { package: String::new(), version: String::new(), source: String::new(), sha256: String::new() }
}

#[cfg(test)]
mod tests;
