//! The tables `service.NAME`, and what must hold between services.

use std::collections::{BTreeMap, BTreeSet};

use krazy_boot::disk::size::Bytes;
use krazy_boot::manifest::capability;
use krazy_boot::manifest::{MILESTONES, Ready, Restart, ServiceSettings};

use super::suggestion::did_you_mean;
use super::table::Table;
use super::{Appliance, OWN_INIT, names, schema};
use crate::failure::{Exit, Failure};

/// The longest `stop-timeout`, in seconds: a shutdown must end within a day.
const MAX_STOP_TIMEOUT: i64 = 86_400;

/// The kernel's `PID_MAX_LIMIT`.
const MAX_TASKS: i64 = 4_194_304;

/// The kernel's default `fs.nr_open`, half of it: what krazy-init may give.
const MAX_FILES: i64 = 524_288;

/// Below this no program starts.
const MIN_MEMORY: Bytes = Bytes::mib(1);

/// Sets what `table` says in `settings`; variables of `env` are added to those already there.
pub fn apply(table: &Table<'_>, settings: &mut ServiceSettings) -> Result<(), Failure> {
    table.check_keys(schema::SERVICE)?;
    if let Some(args) = table.strings("args")? {
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(table.invalid("args", "must not contain a NUL character"));
        }
        settings.args = args;
    }
    if let Some(env) = table.table("env")? {
        for name in env.names() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(env.invalid(name, "must be a variable's name without `=`"));
            }
            let value = env.string(name)?.unwrap_or_default();
            if value.contains('\0') {
                return Err(env.invalid(name, "must not contain a NUL character"));
            }
            settings.env.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(workdir) = table.parsed("workdir", working_directory)? {
        settings.workdir = Some(workdir);
    }
    if let Some(after) = table.strings("after")? {
        for name in &after {
            names::binary(name).map_err(|_| {
                let milestones = MILESTONES.join("`, `");
                table
                    .invalid("after", format!("has {name:?}, which is no service and none of `{milestones}`"))
            })?;
        }
        settings.after = after;
    }
    if let Some(restart) = table.parsed("restart", restart)? {
        settings.restart = restart;
    }
    if let Some(user) = table.parsed("user", names::account)? {
        settings.user = Some(user);
    }
    if let Some(signal) = table.parsed("stop-signal", names::signal)? {
        settings.stop_signal = signal;
    }
    if let Some(seconds) = table.integer("stop-timeout", 0..=MAX_STOP_TIMEOUT)? {
        // Cannot fail within the range just checked.
        settings.stop_timeout = u32::try_from(seconds).unwrap_or(u32::MAX);
    }
    if let Some(required) = table.boolean("required")? {
        settings.required = required;
    }
    rights(table, settings)
}

/// What it may do, and how much.
fn rights(table: &Table<'_>, settings: &mut ServiceSettings) -> Result<(), Failure> {
    if let Some(ready) = table.parsed("ready", |text| text.parse::<Ready>())? {
        settings.ready = ready;
    }
    if let Some(sandbox) = table.boolean("sandbox")? {
        settings.sandbox = sandbox;
    }
    if let Some(names) = table.strings("capabilities")? {
        if let Some(unknown) = names.iter().find(|name| capability::number(name).is_none()) {
            let failure = table.invalid("capabilities", format!("has {unknown:?}, which is no capability"));
            return Err(failure.help(did_you_mean(unknown, "capabilities", capability::CAPABILITIES)));
        }
        settings.capabilities = names;
    }
    if let Some(groups) = table.strings("groups")? {
        for group in &groups {
            names::account(group).map_err(|expected| {
                table.invalid("groups", format!("has {group:?} instead of {expected}"))
            })?;
        }
        settings.groups = groups;
    }
    if let Some(devices) = table.strings("devices")? {
        let device = |path: &&String| names::device_path(path).is_err() || !path.starts_with("/dev/");
        if let Some(wrong) = devices.iter().find(device) {
            return Err(table.invalid("devices", format!("has {wrong:?}, which is no path below /dev")));
        }
        settings.devices = devices;
    }
    if let Some(persistent) = table.boolean("persistent-log")? {
        settings.persistent_log = persistent;
    }
    if let Some(limit) = table.parsed("memory-limit", memory)? {
        settings.memory_limit = Some(limit);
    }
    let number = |key, range| {
        Ok::<_, Failure>(table.integer(key, range)?.and_then(|number| u32::try_from(number).ok()))
    };
    if let Some(limit) = number("task-limit", 1..=MAX_TASKS)? {
        settings.task_limit = Some(limit);
    }
    if let Some(limit) = number("file-limit", 8..=MAX_FILES)? {
        settings.file_limit = Some(limit);
    }
    if let Some(weight) = number("cpu-weight", 1..=10_000)? {
        settings.cpu_weight = Some(weight);
    }
    Ok(())
}

fn memory(text: &str) -> Result<Bytes, String> {
    match text.parse::<Bytes>() {
        Ok(limit) if limit >= MIN_MEMORY => Ok(limit),
        Ok(_) => Err(format!("a size of at least {MIN_MEMORY}")),
        Err(_) => Err("a size such as \"64 MiB\"".to_owned()),
    }
}

fn restart(text: &str) -> Result<Restart, &'static str> {
    match text {
        "always" => Ok(Restart::Always),
        "on-failure" => Ok(Restart::OnFailure),
        "never" => Ok(Restart::Never),
        _ => Err("\"always\", \"on-failure\" or \"never\""),
    }
}

fn working_directory(text: &str) -> Result<String, &'static str> {
    if text == "/" { Ok(text.to_owned()) } else { names::device_path(text) }
}

/// A cycle in `after`, as the names along it with the first one again at the end.
pub fn cycle(services: &BTreeMap<String, ServiceSettings>) -> Option<Vec<&str>> {
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
pub fn check_services(appliance: &Appliance, installed: &BTreeSet<String>) -> Result<(), Failure> {
    let manifest = super::table::shown(&appliance.manifest_path).display();
    let error = |message: String| Failure::new(Exit::Config, format!("{manifest}: {message}"));
    let names = || installed.iter().map(String::as_str);
    let init = appliance.init.as_str();
    if init == OWN_INIT && installed.contains(init) {
        return Err(error(format!(
            "two binaries are called `{init}`: one that was installed, and our own init"
        ))
        .help("rename yours, or leave it out with `bins`"));
    }
    if init != OWN_INIT && !installed.contains(init) {
        let candidates = names().chain([OWN_INIT]);
        return Err(error(format!("`init` is `{init}`, which is not an installed binary"))
            .help(did_you_mean(init, "binaries", candidates)));
    }
    if init != "init" && installed.contains("init") {
        return Err(init_conflict(&error, init));
    }
    let services = || names().filter(|name| *name != init);
    for (name, settings) in &appliance.services {
        if !services().any(|service| service == name) {
            let why = if name == init { "is the init, not a service" } else { "is not an installed binary" };
            return Err(error(format!("`{name}` in [package.metadata.krazy.service] {why}"))
                .help(did_you_mean(name, "services", services())));
        }
        let known = |after: &String| {
            MILESTONES.contains(&after.as_str()) || services().any(|service| service == after)
        };
        if let Some(unknown) = settings.after.iter().find(|after| !known(after)) {
            let message = format!("the service `{name}` starts after `{unknown}`, which does not exist");
            let candidates = services().filter(|service| service != name).chain(MILESTONES);
            return Err(error(message).help(did_you_mean(unknown, "names", candidates)));
        }
    }
    Ok(())
}

/// The error for a binary called `init` that is not the init.
pub fn init_conflict(error: &dyn Fn(String) -> Failure, init: &str) -> Failure {
    error(format!("a binary is called `init`, but /bin/init is `{init}`"))
        .help("write `init = \"init\"` to make it the init, rename it, or leave it out with `bins`")
}
