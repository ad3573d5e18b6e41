//! The JSON of the update API.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/update` | [`UpdateStatus`] |
//! | `POST /api/v1/update` with the [head](super::bundle::Head) of a bundle | 201, [`Session`] |
//! | `PATCH /api/v1/update/{id}?offset=N` with streams from byte `N` on | [`Session`] |
//! | `POST /api/v1/update/{id}/arm` | [`Session`] |
//! | `DELETE /api/v1/update` | 204 |
//! | `PUT /api/v1/update/floor` with a [`Floor`] | 204 |
//!
//! Problems carry the types of [`super::refusal`]. Both sides ignore fields they do not know.

use serde::{Deserialize, Serialize};

use super::bundle::Part;
use super::history::Attempt;
use crate::disk::size::Bytes;
use crate::disk::slot::Slot;

/// What goes on with updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// [`super::bundle::PROTOCOL`] of the device.
    pub protocol: u32,
    /// The session under way, or the one that was verified or armed last.
    pub session: Option<Session>,
    /// What runs; `None` when the device does not run from slots.
    pub running: Option<SlotContent>,
    /// What the other slot holds; `None` when it is empty or incomplete.
    pub other: Option<SlotContent>,
    /// The lowest version the owner allows.
    pub floor: Option<String>,
    /// What became of earlier updates, oldest first.
    #[serde(default)]
    pub history: Vec<Attempt>,
}

/// An update on its way into the slot that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Names the session in paths.
    pub id: String,
    /// How far it is.
    pub state: SessionState,
    /// The slot it goes to.
    pub slot: Slot,
    /// The build it brings.
    pub build_id: String,
    /// Its version.
    pub version: String,
    /// The name of the token that began it.
    pub by: String,
    /// Bytes of streams that have been received and applied.
    pub received: Bytes,
    /// Bytes of streams in all.
    pub total: Bytes,
    /// Seconds since the last of them arrived.
    pub idle: u64,
    /// Why it is over, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<SessionProblem>,
}

/// Why a session failed; the members of the problem that ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionProblem {
    /// The problem's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened.
    pub detail: String,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It takes data.
    Receiving,
    /// Everything is written and is being read back.
    Verifying,
    /// The slot is complete. The next start does not use it yet.
    Verified,
    /// The next start tries it.
    Armed,
    /// It is over. The slot cannot be booted.
    Failed,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotContent {
    /// Which slot.
    pub slot: Slot,
    /// The build.
    pub build_id: String,
    /// Its version.
    pub version: String,
    /// Sizes and hashes, for the choice of a base to copy from. Empty when the device does not know them.
    pub parts: Vec<Part>,
}

/// The lowest version a device takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// A semantic version; `None` takes any.
    pub version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_as_documented() {
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
