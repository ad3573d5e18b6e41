//! `cargo krazy ps`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::status::{API, Service, span};
use crate::device::{DeviceArgs, DeviceError};
use crate::shell::{MessageFormat, Shell};
use crate::table::Table;
use krazy_boot::disk::size::Bytes;

/// Lists the services of a device
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Deserialize)]
struct Services {
    services: Vec<Value>,
}

/// A service as `--message-format json` prints it: what the device sent.
#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    #[serde(flatten)]
    service: &'a Value,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let Services { services } =
            client.get(&format!("{API}/services")).map_err(DeviceError::into_failure)?;
        if shell.format() == MessageFormat::Json {
            let message = |service| Message { reason: "service", host: client.device(), service };
            return services.iter().try_for_each(|service| shell.message(&message(service)));
        }
        let mut table = Table::new(["SERVICE", "PID", "UID", "MEMORY", "UPTIME", "RESTARTS", "STATE"]);
        for service in &services {
            let service = Service::deserialize(service)
                .map_err(|error| client.foreign(error.to_string()).into_failure())?;
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.row([
                service.name.clone(),
                or_none(service.pid.map(|pid| pid.to_string())),
                service.uid.to_string(),
                or_none(service.memory.or(service.rss).map(|bytes| Bytes(bytes).to_string())),
                or_none(service.uptime.map(span)),
                service.restarts.to_string(),
                service.condition(),
            ]);
        }
        shell.output(table.to_string())
    }
}
