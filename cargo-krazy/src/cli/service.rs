//! `cargo krazy service`.

use reqwest::Method;
use serde::Serialize;

use crate::device::{DeviceArgs, DeviceError, paths};
use crate::shell::Shell;

/// Starts, stops, restarts and signals the services of a device
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy service restart kitchen weather
  cargo krazy service signal kitchen weather HUP")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Starts a service
    Start(Service),
    /// Asks a service to end, and keeps it stopped until it is started or the device restarts
    Stop(Service),
    /// Stops a service and starts it again
    Restart(Service),
    /// Sends a signal to a service
    Signal(Signal),
}

#[derive(Debug, clap::Args)]
struct Service {
    #[command(flatten)]
    device: DeviceArgs,
    /// The service, as `cargo krazy ps` lists it
    #[arg(value_name = "SERVICE")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Signal {
    #[command(flatten)]
    service: Service,
    /// `HUP`, `SIGHUP` or a number
    #[arg(value_name = "SIGNAL", value_parser = signal)]
    signal: String,
}

#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    service: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        match self.action {
            Action::Start(service) => order(&service, "start", "Started", "service-started", shell),
            Action::Stop(service) => order(&service, "stop", "Stopped", "service-stopped", shell),
            Action::Restart(service) => order(&service, "restart", "Restarted", "service-restarted", shell),
            Action::Signal(Signal { service, signal }) => {
                let path = format!("signal?signal={signal}");
                order(&service, &path, "Signalled", "service-signalled", shell)
            }
        }
    }
}

fn order(
    Service { device, name }: &Service,
    path: &str,
    verb: &str,
    reason: &'static str,
    shell: Shell,
) -> anyhow::Result<()> {
    let client = device.client()?;
    client.order(Method::POST, &paths::service(name, path), None).map_err(DeviceError::into_failure)?;
    let host = client.device();
    shell.status(verb, format!("`{name}` on `{host}`"));
    shell.message(&Message { reason, host, service: name })
}

/// The device knows which signals there are; what stands in a URL is letters and digits.
fn signal(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| text.to_owned()).ok_or_else(|| "write `HUP`, `SIGHUP` or a number".to_owned())
}
