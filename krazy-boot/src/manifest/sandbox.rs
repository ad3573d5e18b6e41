//! The restrictions of a service that is not root: the key `sandbox`, `true`, `false`, or a table of single ones.
//!
//! | restriction | lifted by | code on the device |
//! |---|---|---|
//! | changes its HOME, its directory in `/run`, `/tmp` and devices only | `writes = false` | Landlock, read-only `/sys` |
//! | no system calls that administer the machine | `system-calls = false` | seccomp |
//! | no namespaces of its own | `namespaces = false` | seccomp |
//! | sockets of IP, Unix, netlink and packets only | `socket-families = false` | seccomp |
//! | `/tmp` and `/dev/shm` of its own | `private-tmp = false` | mount namespace |
//! | a `/dev` with the devices of every program and those in `devices` | `private-devices = false` | mount namespace |
//! | a `/proc` without processes of other accounts | `hidden-processes = false` | mount namespace |
//! | no abstract sockets, shared memory and signals of others | `private-ipc = false` | Landlock, IPC namespace |

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The restrictions of a service, each `true` unless it is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// It can write only below its own directories.
    pub writes: bool,
    /// It has the system calls of ordinary programs only.
    pub system_calls: bool,
    /// It can neither create namespaces nor enter others.
    pub namespaces: bool,
    /// It can create sockets of the common families only.
    pub socket_families: bool,
    /// It has a `/tmp` and a `/dev/shm` of its own.
    pub private_tmp: bool,
    /// It sees the devices of every program and its own only.
    pub private_devices: bool,
    /// It does not see the processes of other accounts.
    pub hidden_processes: bool,
    /// It reaches no abstract sockets, shared memory and processes outside.
    pub private_ipc: bool,
}

/// The keys in the order of [`Sandbox::values`].
pub const KEYS: [&str; 8] = [
    "writes",
    "system-calls",
    "namespaces",
    "socket-families",
    "private-tmp",
    "private-devices",
    "hidden-processes",
    "private-ipc",
];

impl Sandbox {
    /// All restrictions, the default.
    pub const FULL: Self = Self::all(true);

    /// No restriction.
    pub const NONE: Self = Self::all(false);

    const fn all(value: bool) -> Self {
        Sandbox {
            writes: value,
            system_calls: value,
            namespaces: value,
            socket_families: value,
            private_tmp: value,
            private_devices: value,
            hidden_processes: value,
            private_ipc: value,
        }
    }

    fn field(&mut self, key: &str) -> Option<&mut bool> {
        let fields = [
            &mut self.writes,
            &mut self.system_calls,
            &mut self.namespaces,
            &mut self.socket_families,
            &mut self.private_tmp,
            &mut self.private_devices,
            &mut self.hidden_processes,
            &mut self.private_ipc,
        ];
        KEYS.into_iter().zip(fields).find(|(name, _)| *name == key).map(|(_, field)| field)
    }

    /// Every restriction with its key, in the order of [`KEYS`].
    pub fn values(&self) -> [(&'static str, bool); 8] {
        let values = [
            self.writes,
            self.system_calls,
            self.namespaces,
            self.socket_families,
            self.private_tmp,
            self.private_devices,
            self.hidden_processes,
            self.private_ipc,
        ];
        std::array::from_fn(|at| (KEYS[at], values[at]))
    }

    /// Returns true if the service needs a mount namespace of its own.
    pub fn has_own_mounts(&self) -> bool {
        self.writes || self.private_tmp || self.private_devices || self.hidden_processes
    }

    /// Returns true if system calls are filtered.
    pub fn filters_calls(&self) -> bool {
        self.system_calls || self.namespaces || self.socket_families
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox::FULL
    }
}

impl Serialize for Sandbox {
    /// Full and lifted sandboxes are a boolean, which every earlier reader of manifests knows; others a table of what is
    /// lifted.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Sandbox::FULL => serializer.serialize_bool(true),
            Sandbox::NONE => serializer.serialize_bool(false),
            parts => {
                let mut table = serializer.serialize_map(None)?;
                for (key, _) in parts.values().into_iter().filter(|(_, applies)| !applies) {
                    table.serialize_entry(key, &false)?;
                }
                table.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Sandbox {
    // By hand: derived code for a boolean or a table buffers values of every kind, which init has no room for.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SandboxVisitor;

        impl<'de> Visitor<'de> for SandboxVisitor {
            type Value = Sandbox;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false or a table")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Sandbox, E> {
                Ok(Sandbox::all(value))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Sandbox, A::Error> {
                let mut sandbox = Sandbox::FULL;
                while let Some(key) = table.next_key::<String>()? {
                    let field = sandbox.field(&key);
                    *field.ok_or_else(|| de::Error::unknown_field(&key, &KEYS))? = table.next_value()?;
                }
                Ok(sandbox)
            }
        }

        deserializer.deserialize_any(SandboxVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_is_a_boolean_unless_a_part_is_lifted() {
        for (text, sandbox) in [("true", Sandbox::FULL), ("false", Sandbox::NONE), ("{}", Sandbox::FULL)] {
            assert_eq!(serde_json::from_str::<Sandbox>(text).unwrap(), sandbox, "{text}");
        }
        assert_eq!(serde_json::to_string(&Sandbox::FULL).unwrap(), "true");
        assert_eq!(serde_json::to_string(&Sandbox::NONE).unwrap(), "false");
        let lifted: Sandbox = serde_json::from_str(r#"{"private-tmp": false}"#).unwrap();
        assert_eq!(lifted, Sandbox { private_tmp: false, ..Sandbox::FULL });
        let text = serde_json::to_string(&lifted).unwrap();
        assert_eq!(serde_json::from_str::<Sandbox>(&text).unwrap(), lifted);
        assert!(serde_json::from_str::<Sandbox>(r#"{"private-temp": false}"#).is_err());
    }

    #[test]
    fn every_key_lifts_its_own_restriction() {
        for key in KEYS {
            let lifted: Sandbox = serde_json::from_str(&format!(r#"{{"{key}": false}}"#)).unwrap();
            let off: Vec<&str> =
                lifted.values().into_iter().filter(|(_, on)| !on).map(|(key, _)| key).collect();
            assert_eq!(off, [key]);
        }
    }
}
