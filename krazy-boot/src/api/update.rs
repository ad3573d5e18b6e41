//! Sessions that write an update to the inactive slot.
//!
//! A session begins with the [head](crate::update::bundle::Head) of a bundle, takes the bundle's streams in any number
//! of requests, and is armed when the slot is verified. Problems carry a [`Refusal`](crate::update::refusal::Refusal).

use serde::{Deserialize, Serialize};

use super::problem::ProblemKind;
use crate::digest::Hex;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;
use crate::update::bundle::{Part, SIGNATURE_LEN};
use crate::update::history::Attempt;

/// The state of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateStatus {
    /// The version of the bundle protocol that the device supports.
    pub protocol: u32,
    /// The session in progress, or the one that was verified or armed last.
    pub session: Option<Session>,
    /// The running slot; null if the device does not run from slots.
    pub running: Option<SlotContent>,
    /// The inactive slot; null if it is empty or incomplete.
    pub other: Option<SlotContent>,
    /// The lowest version that the owner allows.
    pub floor: Option<String>,
    /// The keys whose updates the device accepts, as [`UpdateKey`](super::credentials::UpdateKey) prints them. Empty if
    /// they are not usable, and on devices that cannot replace them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Earlier updates and their outcomes, oldest first.
    #[serde(default)]
    pub history: Vec<Attempt>,
}

/// An update that is being written to the inactive slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Session {
    /// The name of the session in paths.
    pub id: String,
    /// The progress.
    pub state: SessionState,
    /// The slot it is written to.
    pub slot: Slot,
    /// The build id.
    pub build_id: String,
    /// The version.
    pub version: String,
    /// The name of the token that began it.
    pub by: String,
    /// Bytes of streams that have been received and applied.
    pub received: Bytes,
    /// All bytes of streams.
    pub total: Bytes,
    /// Seconds since the last of them arrived.
    pub idle: u64,
    /// The failure, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<SessionProblem>,
}

/// The failure of a session: members of the problem that ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionProblem {
    /// The problem's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The details of this failure.
    pub detail: String,
}

/// The progress of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It accepts data.
    Receiving,
    /// Everything is written and is being read back.
    Verifying,
    /// The slot is complete. The next start does not use it yet.
    Verified,
    /// The next start tries it.
    Armed,
    /// It ended. The slot cannot be booted.
    Failed,
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotContent {
    /// The slot.
    pub slot: Slot,
    /// The build id.
    pub build_id: String,
    /// Its version.
    pub version: String,
    /// Sizes and hashes, for the choice of a delta's base. Empty if they are unknown.
    pub parts: Vec<Part>,
}

/// The lowest version that a device accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Floor {
    /// A semantic version; null accepts any.
    pub version: Option<String>,
}

/// New update keys of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// All keys that count from now on, one a line, as [`UpdateKey`](super::credentials::UpdateKey) prints them.
    pub keys: String,
    /// The Ed25519 signature (RFC 8032) over [`KeyChange::message`] by a key that the device has.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub signature: Hex<SIGNATURE_LEN>,
}

impl KeyChange {
    /// Signed in front of the keys (domain separation), so that the signature is not valid for anything else.
    const SIGNED_DOMAIN: &[u8] = b"cargo krazy update keys 1\0";

    /// Returns the signed bytes for the new `keys`.
    pub fn message(keys: &str) -> Vec<u8> {
        [Self::SIGNED_DOMAIN, keys.as_bytes()].concat()
    }
}

/// The query of the update status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StatusQuery {
    /// True reads the whole running slot if its content is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hash: bool,
}

/// The query of the beginning of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BeginQuery {
    /// True accepts a build that runs already, failed before, or is another appliance's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// True ends an update in progress and disarms the slot.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// The query of an update's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DataQuery {
    /// The position of the data in the bundle's streams.
    pub offset: u64,
}

impl SessionProblem {
    /// The kind of the problem; `None` if it is of a newer device.
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_type(&self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_status_has_the_documented_wire_format() {
        let session = Session {
            id: "5f".into(),
            state: SessionState::Receiving,
            slot: Slot::B,
            build_id: "ab".into(),
            version: "1.0.0".into(),
            by: "admin".into(),
            received: Bytes(5),
            total: Bytes(9),
            idle: 0,
            problem: None,
        };
        let running =
            SlotContent { slot: Slot::A, build_id: "cd".into(), version: "0.9.0".into(), parts: Vec::new() };
        let status = UpdateStatus {
            protocol: 1,
            session: Some(session),
            running: Some(running),
            other: None,
            floor: None,
            keys: Vec::new(),
            history: Vec::new(),
        };
        let json = concat!(
            r#"{"protocol":1,"session":{"id":"5f","state":"receiving","slot":"b","build_id":"ab","version":"1.0.0","#,
            r#""by":"admin","received":5,"total":9,"idle":0},"running":{"slot":"a","build_id":"cd","#,
            r#""version":"0.9.0","parts":[]},"other":null,"floor":null,"history":[]}"#
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), json);
        assert_eq!(serde_json::from_str::<UpdateStatus>(json).unwrap(), status);
        assert_eq!(serde_json::from_str::<Floor>("{}").unwrap(), Floor { version: None });
    }
}
