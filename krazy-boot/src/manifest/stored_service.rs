//! A service as it is stored in the manifest.
//!
//! An init of the first version rejects a manifest with a setting that it does not know, and so the update to the build
//! that has it. It ignores unknown tables, so every later setting is stored in `later`, beside `settings`.

use serde::{Deserialize, Serialize};

use super::checks::Checks;
use super::sandbox::Sandbox;
use super::{Program, Service, ServiceSettings, Start};

/// The stored form of [`Service`].
#[derive(Serialize, Deserialize)]
pub(super) struct StoredService {
    name: String,
    program: Program,
    #[serde(default)]
    settings: ServiceSettings,
    #[serde(default, skip_serializing_if = "LaterSettings::is_empty")]
    later: LaterSettings,
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    checks: Checks,
}

/// Those of [`ServiceSettings`] that the first version did not have.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct LaterSettings {
    #[serde(skip_serializing_if = "Start::is_default")]
    start: Start,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sysfs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<u16>>,
    /// A sandbox of which a part is lifted. The first version knows `true` and `false` only, in `settings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Sandbox>,
}

impl LaterSettings {
    fn is_empty(&self) -> bool {
        *self == LaterSettings::default()
    }
}

impl From<Service> for StoredService {
    fn from(Service { name, program, mut settings, checks }: Service) -> Self {
        let is_partial = ![Sandbox::FULL, Sandbox::NONE].contains(&settings.sandbox);
        let later = LaterSettings {
            start: settings.start,
            sysfs: std::mem::take(&mut settings.sysfs),
            ports: settings.ports.take(),
            sandbox: is_partial.then(|| std::mem::take(&mut settings.sandbox)),
        };
        StoredService { name, program, settings, later, checks }
    }
}

impl From<StoredService> for Service {
    fn from(StoredService { name, program, settings, later, checks }: StoredService) -> Self {
        let LaterSettings { start, sysfs, ports, sandbox } = later;
        let sandbox = sandbox.unwrap_or(settings.sandbox);
        let settings = ServiceSettings { start, sysfs, ports, sandbox, ..settings };
        Service { name, program, settings, checks }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// The settings of the first version, which accepts no others.
    const FIRST: [&str; 19] = [
        "after",
        "args",
        "capabilities",
        "cpu-weight",
        "devices",
        "env",
        "file-limit",
        "groups",
        "memory-limit",
        "persistent-log",
        "ready",
        "required",
        "restart",
        "sandbox",
        "stop-signal",
        "stop-timeout",
        "task-limit",
        "user",
        "workdir",
    ];

    fn service() -> Service {
        let text = "x".to_owned();
        let program =
            Program { package: text.clone(), version: text.clone(), source: text.clone(), sha256: text };
        let settings = ServiceSettings {
            start: Start::Manual,
            sysfs: vec!["class/leds/*/brightness".into()],
            ports: Some(vec![80]),
            sandbox: Sandbox { private_tmp: false, ..Sandbox::FULL },
            memory_limit: Some(crate::disk::size::Bytes::mib(9)),
            ..ServiceSettings::default()
        };
        let checks = Checks { watchdog: Some(30), http: "http:80/".parse().ok(), ..Checks::default() };
        Service { name: "web".into(), program, settings, checks }
    }

    #[test]
    fn settings_have_only_names_that_the_first_version_accepts() {
        for service in [service(), Service { settings: ServiceSettings::default(), ..service() }] {
            let stored = serde_json::to_value(&service).unwrap();
            let Value::Object(settings) = &stored["settings"] else { panic!("{stored}") };
            let names: BTreeSet<_> = settings.keys().map(String::as_str).collect();
            assert!(names.is_subset(&FIRST.into()), "{names:?}");
            // `sandbox` is true or false there, and `ready` has three forms.
            assert!(settings["sandbox"].is_boolean(), "{settings:?}");
            assert_eq!(serde_json::from_value::<Service>(stored).unwrap(), service);
        }
    }

    #[test]
    fn unknown_settings_of_a_later_version_are_ignored() {
        let mut stored = serde_json::to_value(service()).unwrap();
        stored["settings"]["colour"] = 1.into();
        stored["later"]["colour"] = 2.into();
        assert_eq!(serde_json::from_value::<Service>(stored).unwrap(), service());
    }
}
