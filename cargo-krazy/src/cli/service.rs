//! `cargo krazy service`.

use crate::cli::device_args::DeviceArgs;
use crate::failure::Result;
use crate::ops::service::{self, ServiceOrder};
use crate::shell::Shell;

/// Starts, stops, restarts and signals the services of a device
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy service restart kitchen weather
  cargo krazy service signal kitchen weather HUP")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Starts a service
    Start(Service),
    /// Stops a service, until it is started or the device restarts
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
    /// The service: a name that `cargo krazy ps` lists
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

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        let (Service { device, name }, order) = match self.action {
            Action::Start(service) => (service, ServiceOrder::Start),
            Action::Stop(service) => (service, ServiceOrder::Stop),
            Action::Restart(service) => (service, ServiceOrder::Restart),
            Action::Signal(Signal { service, signal }) => (service, ServiceOrder::Signal(signal)),
        };
        service::give(&device.client()?, &name, &order, shell)
    }
}

/// Accepts letters and digits, which need no escapes in a URL. The device knows which signals there are.
fn signal(text: &str) -> Result<String, &'static str> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| text.to_owned()).ok_or("write `HUP`, `SIGHUP` or a number")
}
