//! The restrictions of an appliance's services, and how exposed each leaves the device: an idea of `systemd-analyze
//! security`. It reads the metadata only, so that it needs neither a build nor a device.

use std::collections::BTreeMap;
use std::fmt;

use krazy_boot::manifest::sandbox::Sandbox;
use krazy_boot::manifest::{CONTROL_GROUP, ServiceSettings, accounts};
use serde::Serialize;

use crate::config::{Appliance, OWN_ADMIND, OWN_INIT};
use crate::table::Table;

/// Capabilities with which a service is as good as root.
const POWERFUL: [&str; 12] = [
    "bpf",
    "chown",
    "dac-override",
    "dac-read-search",
    "fowner",
    "mknod",
    "setgid",
    "setuid",
    "sys-admin",
    "sys-module",
    "sys-ptrace",
    "sys-rawio",
];

/// The share of each restriction of `sandbox`, in the order of its values.
const SANDBOX_WEIGHTS: [(u32, &str); 8] = [
    (1000, "changes its HOME, /run/NAME, /tmp and devices only"),
    (1500, "makes no system calls of administration"),
    (800, "creates no namespaces"),
    (400, "creates sockets of common families only"),
    (500, "has /tmp and /dev/shm of its own"),
    (600, "sees devices of every program and its own only"),
    (500, "sees its own processes only"),
    (300, "reaches no abstract sockets and processes of others"),
];

/// A restriction, and whether it applies to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Restriction {
    /// The key of the metadata that decides.
    key: String,
    /// The text for people.
    text: &'static str,
    /// True if it applies.
    applies: bool,
    /// Its part of the exposure, if it does not apply.
    weight: u32,
}

/// The restrictions of one service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Service {
    /// Its name; that of the crate, if only the build tells the names of its programs.
    name: String,
    /// From 0, everything is restricted, to 10, it is root.
    exposure: f64,
    /// All of them.
    restrictions: Vec<Restriction>,
}

/// The services of an appliance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Audit(pub(crate) Vec<Service>);

/// Judges the services of `appliance`: those with a table, and each crate of which no program has one.
pub(crate) fn audit(appliance: &Appliance) -> Audit {
    let mut services: BTreeMap<&str, ServiceSettings> =
        appliance.services.iter().map(|(name, settings)| (name.as_str(), settings.clone())).collect();
    for install in &appliance.installs {
        let names = if install.bins.is_empty() { std::slice::from_ref(&install.name) } else { &install.bins };
        for name in names.iter().filter(|name| ![OWN_INIT, &appliance.init].contains(&name.as_str())) {
            let user = (name == OWN_ADMIND).then(|| accounts::ROOT.to_owned());
            services.entry(name).or_insert(ServiceSettings { user, ..ServiceSettings::default() });
        }
    }
    let has_memory_limit =
        |name: &str| appliance.checks.get(name).is_none_or(|checks| !checks.unlimited_memory);
    let judged = |(name, settings): (&str, _)| service(name, &settings, has_memory_limit(name));
    Audit(services.into_iter().map(judged).collect())
}

/// Judges one service. `has_memory_limit` is true for the default limit, too.
fn service(name: &str, settings: &ServiceSettings, has_memory_limit: bool) -> Service {
    let is_root = settings.user.as_deref() == Some(accounts::ROOT);
    let sandbox = if is_root { Sandbox::NONE } else { settings.sandbox };
    let mut restrictions = vec![
        Restriction {
            key: "user".to_owned(),
            text: "runs under an account that is not root",
            applies: !is_root,
            weight: 2000,
        },
        Restriction {
            key: "capabilities".to_owned(),
            text: "has no capability that is as good as root",
            applies: !is_root && !settings.capabilities.iter().any(|name| POWERFUL.contains(&name.as_str())),
            weight: 1500,
        },
        Restriction {
            key: "capabilities".to_owned(),
            text: "has no capabilities",
            applies: !is_root && settings.capabilities.is_empty(),
            weight: 400,
        },
    ];
    for ((key, applies), (weight, text)) in sandbox.values().into_iter().zip(SANDBOX_WEIGHTS) {
        restrictions.push(Restriction { key: format!("sandbox.{key}"), text, applies, weight });
    }
    let others = [
        ("groups", "cannot control init", !settings.groups.iter().any(|group| group == CONTROL_GROUP), 1000),
        (
            "groups",
            "reads no logs of others",
            settings.groups.iter().all(|group| group == CONTROL_GROUP),
            100,
        ),
        ("devices", "was granted no devices", settings.devices.is_empty(), 150),
        ("sysfs", "was granted no files of /sys", settings.sysfs.is_empty(), 100),
        ("memory-limit", "has a memory limit", has_memory_limit, 150),
    ];
    restrictions.extend(others.map(|(key, text, applies, weight)| Restriction {
        key: key.to_owned(),
        text,
        // Root has what is granted to others, and can raise its own limits.
        applies: applies && !is_root,
        weight,
    }));
    let sum = |lost: bool| -> u32 {
        restrictions.iter().filter(|it| !lost || !it.applies).map(|restriction| restriction.weight).sum()
    };
    let exposure = (f64::from(sum(true)) * 100.0 / f64::from(sum(false))).round() / 10.0;
    Service { name: name.to_owned(), exposure, restrictions }
}

impl Service {
    fn judgement(&self) -> &'static str {
        match self.exposure {
            ..2.0 => "restricted",
            ..5.0 => "partly restricted",
            ..8.0 => "exposed",
            _ => "unrestricted",
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["SERVICE", "EXPOSURE", "IS", "LIFTED BY"]);
        for service in &self.0 {
            let lifted = service.restrictions.iter().filter(|restriction| !restriction.applies);
            let mut keys: Vec<&str> = lifted.map(|restriction| restriction.key.as_str()).collect();
            keys.dedup();
            let keys = match keys.first() {
                // It makes all others void.
                Some(&"user") => "user".to_owned(),
                _ => keys.join(" "),
            };
            table.row([
                service.name.clone(),
                format!("{:.1}", service.exposure),
                service.judgement().to_owned(),
                keys,
            ]);
        }
        table.fmt(f)?;
        if let [service] = &self.0[..] {
            writeln!(f)?;
            for Restriction { key, text, applies, .. } in &service.restrictions {
                writeln!(f, "{} {text} ({key})", if *applies { "yes" } else { "no " })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_grows_with_what_a_service_is_given() {
        let exposure = |settings: &ServiceSettings| service("web", settings, true).exposure;
        let default = ServiceSettings::default();
        assert_eq!(exposure(&default), 0.0);
        assert_eq!(service("web", &default, false).exposure, 0.1);
        let root = ServiceSettings { user: Some("root".into()), ..default.clone() };
        assert_eq!(exposure(&root), 10.0);
        let lifted = ServiceSettings { sandbox: Sandbox::NONE, ..default.clone() };
        let powerful = ServiceSettings { capabilities: vec!["sys-admin".into()], ..default.clone() };
        let harmless = ServiceSettings { capabilities: vec!["net-bind-service".into()], ..default.clone() };
        let order = [&default, &harmless, &powerful, &lifted, &root].map(exposure);
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }

    #[test]
    fn report_names_the_keys_that_were_lifted() {
        let settings = ServiceSettings {
            sandbox: Sandbox { private_tmp: false, ..Sandbox::FULL },
            ..ServiceSettings::default()
        };
        let root = ServiceSettings { user: Some("root".into()), ..ServiceSettings::default() };
        let audit = Audit(vec![service("db", &settings, true), service("web", &root, true)]);
        let text = audit.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("db ") && lines[1].ends_with(" sandbox.private-tmp"), "{text}");
        assert!(lines[2].ends_with(" user"), "{text}");
    }
}
