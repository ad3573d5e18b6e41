//! The file system of `/data`: its source, its condition, and its replacement by a new one.

use serde::{Deserialize, Serialize};

use super::status::{Space, known_or_none};

/// The file on `/boot` that requests formatting at the next start: the appliance's name, the disk's signature in eight
/// hexadecimal digits, and the number of mounts of `/data` so far, or `none`. Any other content does nothing.
pub const FORMAT_REQUEST: &str = "format-data";

/// The source of `/data`, as init mounted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DataSource {
    /// The partition for it, such as `/dev/vda4`, if the disk has one.
    pub partition: Option<String>,
    /// The reason for which `/data` is in memory and will be lost; absent if it is on the partition.
    #[serde(default)]
    pub temporary: Option<String>,
    /// True if this start formatted it on request.
    #[serde(default)]
    pub formatted: bool,
}

/// The condition of `/data`, as far as the kernel knows it. It is not a full check: devices have no e2fsck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DataReport {
    /// The condition; absent if it is unknown here.
    #[serde(default, deserialize_with = "known_or_none")]
    pub state: Option<DataState>,
    /// The source; null without krazy-init.
    pub source: Option<DataSource>,
    /// True if the file system in use is mounted read-only, as the kernel does after an error.
    pub read_only: bool,
    /// The length of the partition in bytes.
    pub partition_size: Option<u64>,
    /// Space of the file system in use, which may be in memory.
    pub space: Space,
    /// The number of errors in the file system on the partition since its last full check.
    pub errors: Option<u64>,
    /// The first of them.
    pub first_error: Option<DataError>,
    /// The last of them.
    pub last_error: Option<DataError>,
    /// The newest lines of the kernel about this file system since the start, oldest first.
    pub kernel_log: Vec<String>,
    /// True if the next start formats the partition.
    pub format_requested: bool,
}

/// The condition of the file system on the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DataState {
    /// It is mounted, and the kernel has found no error.
    Clean,
    /// The kernel has found errors: it needs a full check or to be formatted.
    Errors,
    /// It is not mounted.
    NotMounted,
}

/// An error that the kernel recorded in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DataError {
    /// Seconds since 1970.
    pub time: u64,
    /// The function of the kernel that found it, such as `ext4_lookup`.
    pub function: String,
    /// The line in the kernel's source.
    pub line: u32,
    /// The inode, or 0.
    pub inode: u32,
    /// The block, or 0.
    pub block: u64,
}

/// The query of a request to format `/data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FormatQuery {
    /// The appliance's name, so that no other device loses its files.
    pub name: String,
}
