//! Starting, stopping, restarting and signalling a service of a device.

use krazy_boot::api::Endpoint;
use krazy_boot::api::services::SignalQuery;
use serde::Serialize;

use crate::device::Client;
use crate::failure::Result;
use crate::shell::Shell;

/// An order to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceOrder {
    /// Start.
    Start,
    /// Stop, and stay stopped.
    Stop,
    /// Stop and start.
    Restart,
    /// Receive a signal.
    Signal(String),
}

#[derive(Serialize)]
struct Done<'a> {
    host: &'a str,
    service: &'a str,
}

/// Gives `order` to the service `name`.
pub(crate) fn give(client: &Client, name: &str, order: &ServiceOrder, shell: Shell) -> Result<()> {
    let service = name.to_owned();
    let (endpoint, verb, reason) = match order {
        ServiceOrder::Start => (Endpoint::StartService { name: service }, "Started", "service-started"),
        ServiceOrder::Stop => (Endpoint::StopService { name: service }, "Stopped", "service-stopped"),
        ServiceOrder::Restart => {
            (Endpoint::RestartService { name: service }, "Restarted", "service-restarted")
        }
        ServiceOrder::Signal(signal) => {
            let query = SignalQuery { signal: signal.clone() };
            (Endpoint::SignalService { name: service, query }, "Signalled", "service-signalled")
        }
    };
    client.call(&endpoint)?;
    let host = client.device();
    shell.status(verb, format!("`{name}` on `{host}`"));
    shell.message(reason, &Done { host, service: name })
}
