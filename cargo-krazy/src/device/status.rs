//! What devices tell about themselves, as far as people are shown it.
//!
//! Fields a device does not send are absent, fields that are not known here are ignored: devices are older or newer
//! than this program.

use krazy_boot::disk::slot::Slot;
use krazy_boot::update::history::Attempt;
use serde::Deserialize;

/// Where the API's paths begin.
pub const API: &str = "/api/v1";

/// `/api/v1/status`.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API, which documents them")]
pub struct Status {
    pub name: String,
    pub version: String,
    pub board: String,
    pub build_id: String,
    pub hostname: String,
    pub kernel: String,
    pub slot: Option<Slot>,
    pub trial: Option<Trial>,
    pub uptime: u64,
    pub stable: Option<bool>,
    #[serde(default)]
    pub degraded: Vec<String>,
    pub previous_end: Option<String>,
    pub failed_trial: Option<FailedTrial>,
    pub last_attempt: Option<Attempt>,
    pub memory: Option<Memory>,
    pub data: Option<Space>,
    pub admind: String,
}

/// A boot of an unconfirmed slot.
#[derive(Clone, Debug, Deserialize)]
pub struct Trial {
    /// Seconds until the device goes back.
    pub deadline: u64,
}

/// A trial that was not confirmed.
#[derive(Clone, Debug, Deserialize)]
pub struct FailedTrial {
    /// The slot that was tried.
    pub slot: Slot,
    /// The build in it; empty if that is not known any more.
    #[serde(default)]
    pub build_id: String,
    /// Why it failed, as a sentence without its final stop.
    pub reason: String,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Memory {
    pub total: u64,
    pub available: u64,
}

/// A file system, in bytes.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Space {
    pub total: u64,
    pub available: u64,
}

/// `/api/v1/slots`.
#[derive(Clone, Debug, Deserialize)]
pub struct Slots {
    /// The slot that boots when no trial is armed.
    pub confirmed: Slot,
    /// The slot that boots once, at the next start.
    pub armed: Option<Slot>,
    /// `confirmed`, `on-trial` and so on.
    pub standing: Option<String>,
}

/// One of `/api/v1/services`.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the API, which documents them")]
pub struct Service {
    pub name: String,
    pub state: String,
    pub pid: Option<u32>,
    pub uid: u32,
    pub rss: Option<u64>,
    pub memory: Option<u64>,
    pub uptime: Option<u64>,
    pub restarts: u32,
    pub last_exit: Option<serde_json::Value>,
    pub required: bool,
    pub stable: bool,
    #[serde(default)]
    pub crash_loop: bool,
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

impl Service {
    /// How its last process ended, in words.
    pub fn last_end(&self) -> Option<String> {
        let (kind, value) = self.last_exit.as_ref()?.as_object()?.iter().next()?;
        Some(match (kind.as_str(), value) {
            ("code", value) => format!("exit status {value}"),
            ("not-started", serde_json::Value::String(why)) => format!("not started: {why}"),
            (kind, value) => format!("{kind} {value}"),
        })
    }

    /// What it does, in words: state, why, how its last process ended.
    pub fn condition(&self) -> String {
        let mut text = self.state.clone();
        if !self.waiting_for.is_empty() {
            text.push_str(&format!(" for {}", self.waiting_for.join(", ")));
        }
        if self.crash_loop {
            text.push_str(", keeps ending");
        }
        if let Some(end) = self.last_end() {
            text.push_str(&format!(" (last {end})"));
        }
        text
    }
}

/// Seconds as `3 d 4 h`, `5 min`, `7 s`: the two largest units.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(0, "0 s"), (61, "1 min 1 s"), (3_600, "1 h"), (273_661, "3 d 4 h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn ends_read_like_init_tells_them() {
        let service = |exit: &str| -> Service {
            let text = format!(
                r#"{{"name":"a","state":"backoff","uid":1,"restarts":2,"required":true,"stable":false,
                    "crash_loop":true,"last_exit":{exit},"new":1}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(service(r#"{"code":3}"#).condition(), "backoff, keeps ending (last exit status 3)");
        assert_eq!(service(r#"{"signal":9}"#).last_end().as_deref(), Some("signal 9"));
        assert_eq!(service(r#"{"not-started":"no"}"#).last_end().as_deref(), Some("not started: no"));
        assert_eq!(service("null").last_end(), None);
    }
}
