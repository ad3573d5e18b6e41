//! The tables `service.NAME`, and the checks of services against each other.

use std::collections::{BTreeMap, BTreeSet};

use krazy_boot::manifest::checks::{Checks, HealthCommand};
use krazy_boot::manifest::sandbox::Sandbox;
use krazy_boot::manifest::{MILESTONES, Restart, ServiceSettings, Start};

use super::error::{ConfigError, Result};
use super::origins::Origins;
use super::suggestion::did_you_mean;
use super::values::Either;
use super::{Appliance, OWN_ADMIND, OWN_INIT, names, tables};
use crate::failure::Failure;

/// Returns the settings of every service with a table, for the manifest of the root.
pub(crate) fn settings(
    services: BTreeMap<String, tables::Service>,
    origins: &Origins,
) -> Result<BTreeMap<String, ServiceSettings>> {
    let service = |(name, service): (String, tables::Service)| {
        let unnamed =
            |_| origins.invalid(&["service", &name], "cannot be a service: a file in /bin is not named so");
        names::binary(&name).map_err(unnamed)?;
        let wrong = |variable: &&String| variable.is_empty() || variable.contains(['=', '\0']);
        if let Some(variable) = service.env.keys().find(wrong) {
            let path = ["service", &name, "env", variable];
            return Err(origins.invalid(&path, "must be a variable's name without `=`"));
        }
        if let Some(zone) = service.env.get("TZ")
            && zone.0.contains('/')
            && !zone.0.starts_with([':', '/'])
        {
            let path = ["service", &name, "env", "TZ"];
            names::timezone(&zone.0)
                .map_err(|expected| origins.invalid(&path, format!("must be {expected}")))?;
        }
        if service.start == Some(Start::Manual) && service.required == Some(true) {
            let path = ["service", &name, "required"];
            return Err(origins.invalid(&path, "cannot be true with `start = \"manual\"`"));
        }
        Ok((name, service.into()))
    };
    services.into_iter().map(service).collect()
}

/// Returns the checks of every service that has any, for the manifest of the root.
pub(crate) fn checks(
    services: &BTreeMap<String, tables::Service>,
    origins: &Origins,
) -> Result<BTreeMap<String, Checks>> {
    let mut all = BTreeMap::new();
    for (name, service) in services {
        let health = service.health.as_ref().map(|health| {
            let command: Vec<String> = health.command.iter().map(|text| text.0.clone()).collect();
            if !command.first().is_some_and(|program| program.starts_with('/')) {
                let path = ["service", name, "health", "command"];
                return Err(
                    origins.invalid(&path, "must begin with the path of a program, such as \"/bin/NAME\"")
                );
            }
            Ok(HealthCommand {
                command,
                every: health.every.map_or(HealthCommand::EVERY, |time| time.0),
                timeout: health.timeout.map_or(HealthCommand::TIMEOUT, |time| time.0),
                failures: health.failures.map_or(HealthCommand::FAILURES, |count| count.0),
            })
        });
        let checks = Checks {
            http: service.ready.as_ref().and_then(|ready| ready.0.1.clone()),
            watchdog: service.watchdog.map(|time| time.0),
            health: health.transpose()?,
            stable_after: service.stable_after.map(|time| time.0),
            unlimited_memory: service.memory_limit.as_ref().is_some_and(|limit| limit.0.is_none()),
        };
        if !checks.is_empty() {
            all.insert(name.clone(), checks);
        }
    }
    Ok(all)
}

impl From<tables::Service> for ServiceSettings {
    fn from(service: tables::Service) -> Self {
        let start = service.start.unwrap_or_default();
        let defaults = match start {
            Start::Automatic => ServiceSettings::default(),
            Start::Manual => {
                ServiceSettings { restart: Restart::Never, required: false, ..ServiceSettings::default() }
            }
        };
        ServiceSettings {
            start,
            args: service.args.into_iter().map(|arg| arg.0).collect(),
            env: service.env.into_iter().map(|(name, value)| (name, value.0)).collect(),
            workdir: service.workdir.map(|path| path.0),
            after: service.after.into_iter().map(|name| name.0).collect(),
            restart: service.restart.unwrap_or(defaults.restart),
            user: service.user.map(|user| user.0),
            stop_signal: service.stop_signal.map_or(defaults.stop_signal, |signal| signal.0),
            stop_timeout: service.stop_timeout.map_or(defaults.stop_timeout, |seconds| seconds.0),
            required: service.required.unwrap_or(defaults.required),
            ready: service.ready.map_or(defaults.ready, |ready| ready.0.0),
            sandbox: service.sandbox.map_or(defaults.sandbox, Into::into),
            capabilities: service.capabilities.into_iter().map(|capability| capability.0).collect(),
            groups: service.groups.into_iter().map(|group| group.0).collect(),
            devices: service.devices.into_iter().map(|device| device.0).collect(),
            sysfs: service.sysfs.into_iter().map(|pattern| pattern.0).collect(),
            ports: service
                .ports
                .map(|ports| ports.into_iter().filter_map(|port| port.0.try_into().ok()).collect()),
            persistent_log: service.persistent_log,
            memory_limit: service.memory_limit.and_then(|limit| limit.0),
            task_limit: service.task_limit.map(|limit| limit.0),
            file_limit: service.file_limit.map(|limit| limit.0),
            cpu_weight: service.cpu_weight.map(|weight| weight.0),
        }
    }
}

impl From<Either<bool, tables::Sandbox>> for Sandbox {
    fn from(sandbox: Either<bool, tables::Sandbox>) -> Self {
        match sandbox {
            Either::Value(true) => Sandbox::FULL,
            Either::Value(false) => Sandbox::NONE,
            Either::Table(parts) => Sandbox {
                writes: parts.writes.unwrap_or(true),
                system_calls: parts.system_calls.unwrap_or(true),
                namespaces: parts.namespaces.unwrap_or(true),
                socket_families: parts.socket_families.unwrap_or(true),
                private_tmp: parts.private_tmp.unwrap_or(true),
                private_devices: parts.private_devices.unwrap_or(true),
                hidden_processes: parts.hidden_processes.unwrap_or(true),
                private_ipc: parts.private_ipc.unwrap_or(true),
            },
        }
    }
}

/// Returns a cycle in `after`: the names along it, with the first one again at the end.
pub(crate) fn cycle(services: &BTreeMap<String, ServiceSettings>) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    services.keys().find_map(|start| walk(services, start, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    services: &'a BTreeMap<String, ServiceSettings>,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(first) = path.iter().position(|visited| *visited == name) {
        let mut cycle = path.get(first..).unwrap_or_default().to_vec();
        cycle.push(name);
        return Some(cycle);
    }
    if done.contains(name) {
        return None;
    }
    path.push(name);
    let after = services.get(name).map(|settings| settings.after.as_slice()).unwrap_or_default();
    let found = after.iter().find_map(|next| walk(services, next, path, done));
    path.pop();
    done.insert(name);
    found
}

/// Checks the appliance against the names of the binaries that `Appliance::installs` put into `/bin`: `init` must
/// be one of them, each service table must belong to one, and so must every name in `after`.
pub(crate) fn check_services(
    appliance: &Appliance,
    installed: &BTreeSet<String>,
) -> std::result::Result<(), Failure> {
    Ok(check(appliance, installed)?)
}

fn check(appliance: &Appliance, installed: &BTreeSet<String>) -> Result<()> {
    let origins = &appliance.origins;
    let names = || installed.iter().map(String::as_str);
    let init = appliance.init.as_str();
    if init == OWN_INIT && installed.contains(init) {
        let message = format!("two binaries are called `{init}`: one that was installed, and our own init");
        return Err(origins.error(&[], message).help("rename yours, or leave it out with `bins`"));
    }
    if init != OWN_INIT && !installed.contains(init) {
        let candidates = names().chain([OWN_INIT]);
        let message = format!("`init` is `{init}`, which is not an installed binary");
        return Err(origins.error(&[&["init"]], message).help(did_you_mean(init, "binaries", candidates)));
    }
    if init != "init" && installed.contains("init") {
        return Err(init_conflict(origins, init));
    }
    let services = || names().filter(|name| *name != init);
    for (name, settings) in &appliance.services {
        if !services().any(|service| service == name) {
            let reason =
                if name == init { "is the init, not a service" } else { "is not an installed binary" };
            let help = did_you_mean(name, "services", services());
            return Err(origins.invalid(&["service", name], reason).help(help));
        }
        let known = |after: &String| {
            MILESTONES.contains(&after.as_str()) || services().any(|service| service == after)
        };
        if let Some(unknown) = settings.after.iter().find(|after| !known(after)) {
            let message = format!("the service `{name}` starts after `{unknown}`, which does not exist");
            let candidates = services().filter(|service| service != name).chain(MILESTONES);
            let help = did_you_mean(unknown, "names", candidates);
            return Err(origins.error(&[&["service", name, "after"]], message).help(help));
        }
        let manual = |after: &&String| {
            appliance.services.get(*after).is_some_and(|other| other.start == Start::Manual)
        };
        if let Some(manual) = settings.after.iter().find(manual) {
            let message =
                format!("the service `{name}` starts after `{manual}`, which has `start = \"manual\"`");
            return Err(origins.error(&[&["service", name, "after"]], message));
        }
    }
    for (name, checks) in &appliance.checks {
        let program = checks.health.as_ref().and_then(|health| health.command.first());
        // What `files` brings is not compared, and `krazy` is in every root.
        if let Some(program) = program.and_then(|path| path.strip_prefix("/bin/"))
            && !installed.contains(program)
            && program != "krazy"
            && !appliance.files.contains_key(&format!("/bin/{program}"))
        {
            let path = ["service", name, "health", "command"];
            let help = did_you_mean(program, "binaries", names());
            return Err(origins.invalid(&path, "is not an installed binary").help(help));
        }
    }
    Ok(())
}

/// Returns a warning if several binaries are `installed` and some have no service table: each of them is started, which is
/// wrong for a tool that prints its usage and exits.
pub(crate) fn untabled(appliance: &Appliance, installed: &BTreeSet<String>) -> Option<(String, String)> {
    let own = [appliance.init.as_str(), OWN_INIT, OWN_ADMIND];
    let programs: Vec<&str> =
        installed.iter().map(String::as_str).filter(|name| !own.contains(name)).collect();
    let untabled: Vec<&str> =
        programs.iter().copied().filter(|name| !appliance.services.contains_key(*name)).collect();
    let first = untabled.first().filter(|_| programs.len() > 1)?;
    let (are, each) = match untabled.len() {
        1 => ("has no service table: it is", "it"),
        _ => ("have no service table: each is", "each"),
    };
    let warning = format!(
        "{} {are} started with the machine, and no update is confirmed unless {each} keeps running",
        super::suggestion::quoted(untabled.iter().copied())
    );
    let note = format!(
        "for a program that is run by others or by hand, write `service.{first}.start = \"manual\"` below \
         [package.metadata.krazy]; for one that is started, an empty table `service.{first} = {{}}` ends this warning"
    );
    Some((warning, note))
}

/// Returns the error for a binary called `init` that is not the init.
pub(crate) fn init_conflict(origins: &Origins, init: &str) -> Box<ConfigError> {
    origins
        .error(&[&["init"]], format!("a binary is called `init`, but /bin/init is `{init}`"))
        .help("write `init = \"init\"` to make it the init, rename it, or leave it out with `bins`")
}
