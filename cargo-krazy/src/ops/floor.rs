//! The version floor of a device: the lowest version that it takes as an update.

use cargo_metadata::semver::Version;
use krazy_boot::api::Endpoint;
use krazy_boot::api::update::{Floor, StatusQuery, UpdateStatus};
use serde::Serialize;

use crate::device::Client;
use crate::failure::Result;

/// The floor of a device.
#[derive(Debug, Serialize)]
pub(crate) struct VersionFloor<'a> {
    host: &'a str,
    floor: Option<String>,
}

impl std::fmt::Display for VersionFloor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.floor.as_deref().unwrap_or("none"))
    }
}

/// Asks the device of `client` for its floor.
pub(crate) fn show(client: &Client) -> Result<VersionFloor<'_>> {
    let status: UpdateStatus = client.get(&Endpoint::UpdateStatus { query: StatusQuery::default() })?;
    Ok(VersionFloor { host: client.device(), floor: status.floor })
}

/// Sets the floor of the device of `client`, or removes it.
pub(crate) fn set(client: &Client, version: Option<Version>) -> Result<VersionFloor<'_>> {
    let floor = Floor { version: version.map(|version| version.to_string()) };
    let body = serde_json::to_vec(&floor).map_err(anyhow::Error::from)?;
    client.call_with(&Endpoint::SetFloor, body)?;
    Ok(VersionFloor { host: client.device(), floor: floor.version })
}
