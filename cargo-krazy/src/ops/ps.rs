//! The services of a device as a table.

use std::fmt;

use krazy_boot::api::Endpoint;
use krazy_boot::disk::size::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Client;
use crate::device::status::{Service, condition, span};
use crate::failure::Result;
use crate::table::Table;

/// A service as the device describes it, for programs.
#[derive(Serialize)]
pub(crate) struct RawService<'a> {
    host: &'a str,
    #[serde(flatten)]
    service: Value,
}

/// The services of a device, for people.
pub(crate) struct Services(Vec<Service>);

/// Asks the device of `client` for its services.
pub(crate) fn list(client: &Client) -> Result<Vec<RawService<'_>>> {
    #[derive(Deserialize)]
    struct Reply {
        services: Vec<Value>,
    }
    let reply: Reply = client.get(&Endpoint::Services)?;
    let host = client.device();
    Ok(reply.services.into_iter().map(|service| RawService { host, service }).collect())
}

/// Reads what the device of `client` sent.
pub(crate) fn read(client: &Client, raw: &[RawService<'_>]) -> Result<Services> {
    let services = raw.iter().map(|raw| Service::deserialize(&raw.service)).collect::<Result<_, _>>();
    Ok(Services(services.map_err(|error| client.foreign(error.to_string()))?))
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut table = Table::new(["SERVICE", "PID", "UID", "MEMORY", "UPTIME", "RESTARTS", "STATE"]);
        for service in &self.0 {
            table.row([
                service.name.clone(),
                or_none(service.pid.map(|pid| pid.to_string())),
                service.uid.to_string(),
                or_none(service.memory.or(service.rss).map(|bytes| Bytes(bytes).to_string())),
                or_none(service.uptime.map(span)),
                service.restarts.to_string(),
                condition(service),
            ]);
        }
        table.fmt(f)
    }
}
