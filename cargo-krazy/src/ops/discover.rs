//! Devices that announce themselves in the local network.

use std::fmt;
use std::time::Duration;

use crate::device::discovery::{self, Found};
use crate::failure::Result;
use crate::table::Table;

/// Devices that answered.
pub(crate) struct FoundDevices(pub(crate) Vec<Found>);

/// Listens for `timeout`.
pub(crate) fn discover(timeout: Duration) -> Result<FoundDevices> {
    Ok(FoundDevices(discovery::browse(timeout)?))
}

impl fmt::Display for FoundDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut table = Table::new(["HOST", "ADDRESS", "PORT", "APPLIANCE", "VERSION"]);
        for Found { host, addresses, port, appliance, version } in &self.0 {
            let address = addresses.first().cloned();
            let cells = [or_none(&address), port.to_string(), or_none(appliance), or_none(version)];
            let [address, port, appliance, version] = cells;
            table.row([host.clone(), address, port, appliance, version]);
        }
        table.fmt(f)
    }
}
