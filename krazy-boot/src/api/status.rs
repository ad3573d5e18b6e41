//! The running system, and its condition.

use serde::{Deserialize, Deserializer, Serialize};

use super::data::DataSource;
use crate::disk::selector::SlotState;
use crate::disk::slot::Slot;
use crate::update::history::Attempt;

/// The running system as init reports it on the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInfo {
    /// The appliance's name, from the manifest.
    pub name: String,
    /// The version of the user's package, from the manifest.
    pub version: String,
    /// The board the root was made for.
    pub board: String,
    /// The manifest's build id.
    pub build_id: String,
    /// The host name in use.
    pub hostname: String,
    /// The running kernel's release.
    pub kernel: String,
    /// The version of this init.
    pub init: String,
    /// The running slot; `None` if the command line names none.
    pub slot: Option<Slot>,
    /// The disk of the root, such as `/dev/vda`; `None` if the root is not on a cargo krazy disk.
    pub disk: Option<String>,
    /// Other disks with the signature of [`BootInfo::disk`], any of which may be the one that was booted.
    #[serde(default)]
    pub twin_disks: Vec<String>,
    /// The trial, if this boot is one.
    pub trial: Option<Trial>,
    /// The slot that boots once at the next start, if one is armed.
    #[serde(default)]
    pub armed: Option<Slot>,
    /// The failed trial of the other slot after which this boot returned to this slot, if there was one.
    #[serde(default)]
    pub failed_trial: Option<FailedTrial>,
    /// The confirmed slot that did not start, if the running slot is the fallback from it.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// True if every required service is stable.
    pub stable: bool,
    /// Every deviation from the expected condition, one sentence each.
    pub degraded: Vec<String>,
    /// The milestones that services can wait for.
    pub milestones: Milestones,
    /// True if `/boot` is mounted writable; `None` if it is not mounted.
    pub boot_writable: Option<bool>,
    /// The end of the previous boot, as far as init recorded it on `/data`.
    #[serde(default)]
    pub previous_end: Option<String>,
    /// The source of `/data`.
    #[serde(default)]
    pub data: Option<DataSource>,
}

/// The running system as the API reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The appliance's name.
    pub name: String,
    /// The version of the user's package.
    pub version: String,
    /// The board the root was made for.
    pub board: String,
    /// The build id of the running root's manifest.
    pub build_id: String,
    /// The host name in use.
    pub hostname: String,
    /// The running kernel's release.
    pub kernel: String,
    /// The running slot, if the command line names one.
    pub slot: Option<Slot>,
    /// The trial, if this boot is one.
    pub trial: Option<Trial>,
    /// The failed trial after which this boot returned to this slot, if there was one.
    pub failed_trial: Option<FailedTrial>,
    /// The confirmed slot that did not start, if the running slot is the fallback from it.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// The last update or switch that was armed, and its outcome.
    pub last_attempt: Option<Attempt>,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// True if every required service is stable; null without krazy-init.
    pub stable: Option<bool>,
    /// Every deviation from the expected condition, one sentence each.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// The milestones that services can wait for; null without krazy-init.
    pub milestones: Option<Milestones>,
    /// The end of the previous boot, as far as init recorded it.
    pub previous_end: Option<String>,
    /// Memory.
    pub memory: Memory,
    /// The file system of `/data`.
    pub data: Space,
    /// The source of `/data`; null without krazy-init.
    #[serde(default)]
    pub data_source: Option<DataSource>,
    /// The version of the API server.
    pub admind: String,
}

/// A boot of an unconfirmed slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trial {
    /// Seconds until init restarts the machine into the confirmed slot unless this one is confirmed.
    pub deadline: u64,
}

/// A confirmed slot that did not start, so that the other one runs. The next start tries it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fallback {
    /// The slot that did not start.
    pub slot: Slot,
    /// The reason, one sentence.
    pub reason: String,
}

/// A trial that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailedTrial {
    /// The slot that was tried.
    pub slot: Slot,
    /// The build in it; empty if that is not known.
    #[serde(default)]
    pub build_id: String,
    /// The reason, as a sentence without its final stop.
    pub reason: String,
}

/// The milestones that have been reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Milestones {
    /// An interface has an address and a default route.
    pub network: bool,
    /// The clock was set from the network.
    pub clock: bool,
    /// `/data` is mounted from the disk.
    pub data: bool,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Memory {
    /// All memory.
    pub total: u64,
    /// Memory that programs could still take without swapping.
    pub available: u64,
}

/// Space of a file system in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Space {
    /// All space.
    pub total: u64,
    /// Space left, without root's reserve.
    pub available: u64,
}

/// The boot selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Slots {
    /// The running slot, if the command line names one.
    pub running: Option<Slot>,
    /// The slot that boots when no trial is armed.
    pub confirmed: Slot,
    /// The slot that boots once, at the next start.
    pub armed: Option<Slot>,
    /// The slot that was armed last and not confirmed since.
    pub candidate: Option<Slot>,
    /// The meaning of these for the running slot.
    #[serde(rename = "standing", default, deserialize_with = "known_or_none")]
    pub state: Option<SlotState>,
    /// The trial, if this boot is one.
    pub trial: Option<Trial>,
    /// True if a copy of the selector is damaged, or the copies disagree.
    #[serde(default)]
    pub needs_repair: bool,
}

/// The query of a switch to another slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchQuery {
    /// The slot to boot at the next start; default: the inactive one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}

/// Reads a value that a newer version may have extended: `None` if it is unknown here.
pub(super) fn known_or_none<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: for<'a> Deserialize<'a>,
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_slot_state_of_a_newer_device_is_absent() {
        let state = |standing: &str| {
            let json = format!(r#"{{"confirmed":"a","standing":{standing},"new":1}}"#);
            serde_json::from_str::<Slots>(&json).unwrap().state
        };
        assert_eq!(state("\"on-trial\""), Some(SlotState::OnTrial));
        assert_eq!(state("\"elsewhere\""), None);
        assert_eq!(state("null"), None);
    }
}
