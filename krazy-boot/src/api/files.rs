//! Files and directories of a device.

use serde::{Deserialize, Serialize};

/// The content of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listing {
    /// The directory's path.
    pub path: String,
    /// Its entries, sorted by name.
    pub entries: Vec<Entry>,
    /// True if there are more entries than these.
    pub truncated: bool,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entry {
    /// The name to show; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The path below `/api/v1/files` or `/api/v1/directories`, percent-encoded.
    pub path: String,
    /// The type of file.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// Its length in bytes.
    pub size: u64,
    /// Permission bits in octal.
    pub mode: String,
    /// The owner's account.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// The time of the last change, in seconds since 1970.
    pub modified: i64,
    /// The target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// The query of a directory's removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RemoveQuery {
    /// True removes its content, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
}

/// The query of a raw write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FlashQuery {
    /// True writes what the running system uses, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}
