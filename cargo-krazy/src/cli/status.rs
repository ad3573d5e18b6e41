//! `cargo krazy status`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::status::{API, FailedTrial, Service, Slots, Status, span};
use crate::device::{Client, DeviceArgs, DeviceError};
use crate::shell::{MessageFormat, Shell};
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::disk::size::Bytes;

/// Shows what a device runs, and in what condition it is
///
/// The appliance and its version, the slots, services that are not well, memory and space.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy status 10.0.0.5
  cargo krazy status kitchen --message-format json")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

/// The message of `--message-format json`: what the device sent.
#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    status: Value,
    /// Absent where there are no slots.
    slots: Option<Value>,
    services: Option<Value>,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let status: Value = client.get(&format!("{API}/status")).map_err(DeviceError::into_failure)?;
        let slots = optional(&client, "slots")?;
        let services = optional(&client, "services")?.map(|mut services| services["services"].take());
        if shell.format() == MessageFormat::Json {
            let host = client.device();
            return shell.message(&Message { reason: "device-status", host, status, slots, services });
        }
        let known = |error: serde_json::Error| client.foreign(error.to_string()).into_failure();
        let services = services.map_or(Ok(Vec::new()), Vec::<Service>::deserialize).map_err(known)?;
        let slots = slots.map(Slots::deserialize).transpose().map_err(known)?;
        shell.output(report(&Status::deserialize(status).map_err(known)?, slots.as_ref(), &services))
    }
}

/// What the device tells at `name`; nothing if it has a reason not to, such as another init.
fn optional(client: &Client, name: &str) -> anyhow::Result<Option<Value>> {
    match client.get(&format!("{API}/{name}")) {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            Some(ProblemKind::NotNow | ProblemKind::InitUnreachable | ProblemKind::NotFound) => Ok(None),
            _ => Err(error.into_failure().into()),
        },
    }
}

fn report(status: &Status, slots: Option<&Slots>, services: &[Service]) -> String {
    let mut text = format!("{} v{} on {}\n", status.name, status.version, status.hostname);
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "  {name:<10} {value}");
    };
    line("board", status.board.clone());
    line("kernel", format!("Linux {}", status.kernel));
    line("build", status.build_id.chars().take(16).collect());
    line("uptime", span(status.uptime));
    if let Some(slot) = status.slot {
        let standing = slots.and_then(|slots| slots.standing.clone());
        line("slot", format!("{slot}, {}", standing.unwrap_or_else(|| "standing unknown".to_owned())));
    }
    if let Some(trial) = &status.trial {
        line("trial", format!("goes back in {} unless it is confirmed", span(trial.deadline)));
    }
    if let Some(armed) = slots.and_then(|slots| slots.armed) {
        line("next boot", format!("slot {armed}, on trial"));
    }
    match (&status.last_attempt, &status.failed_trial) {
        (Some(attempt), _) => line("last trial", attempt.to_string()),
        // Without /data there is no history, and this is known from the disk's trial note.
        (None, Some(FailedTrial { slot, build_id, reason })) => {
            let build: String = build_id.chars().take(16).collect();
            line("last trial", format!("build {build} in slot {slot} failed: {reason}"));
        }
        (None, None) => {}
    }
    let well = services.iter().filter(|service| service.stable).count();
    if !services.is_empty() {
        line("services", format!("{well} of {} stable", services.len()));
    }
    for service in services.iter().filter(|service| !service.stable) {
        line("", format!("{}: {}", service.name, service.condition()));
    }
    if let Some(memory) = &status.memory {
        line("memory", format!("{} of {} available", Bytes(memory.available), Bytes(memory.total)));
    }
    if let Some(data) = &status.data {
        line("/data", format!("{} of {} free", Bytes(data.available), Bytes(data.total)));
    }
    if let Some(end) = &status.previous_end {
        line("last end", end.clone());
    }
    for degraded in &status.degraded {
        line("degraded", degraded.clone());
    }
    text
}
