//! Starting, stopping, restarting and signalling a service of a device.

use reqwest::Method;
use serde::Serialize;

use crate::device::{Client, paths};
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
    let (path, verb, reason) = match order {
        ServiceOrder::Start => ("start".to_owned(), "Started", "service-started"),
        ServiceOrder::Stop => ("stop".to_owned(), "Stopped", "service-stopped"),
        ServiceOrder::Restart => ("restart".to_owned(), "Restarted", "service-restarted"),
        ServiceOrder::Signal(signal) => (format!("signal?signal={signal}"), "Signalled", "service-signalled"),
    };
    client.order(Method::POST, &paths::service(name, &path), None)?;
    let host = client.device();
    shell.status(verb, format!("`{name}` on `{host}`"));
    shell.message(reason, &Done { host, service: name })
}
