//! The status of a device: its build, slots, services, memory and space.

use std::fmt;

use krazy_boot::api::Endpoint;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::disk::selector::SlotState;
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::history::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Client;
use crate::device::status::{FailedTrial, Service, Slots, Status, condition, span};
use crate::failure::Result;

/// The replies of a device as it sent them, for programs.
#[derive(Serialize)]
pub(crate) struct RawStatus<'a> {
    host: &'a str,
    status: Value,
    /// Absent where there are no slots.
    slots: Option<Value>,
    services: Option<Value>,
}

/// The status of a device, for people.
pub(crate) struct DeviceStatus {
    status: Status,
    slots: Option<Slots>,
    services: Vec<Service>,
}

/// Asks the device of `client`.
pub(crate) fn ask(client: &Client) -> Result<RawStatus<'_>> {
    let status = client.get(&Endpoint::Status)?;
    let slots = optional(client, &Endpoint::Slots)?;
    let services =
        optional(client, &Endpoint::Services)?.map(|mut services: Value| services["services"].take());
    Ok(RawStatus { host: client.device(), status, slots, services })
}

/// Reads what the device of `client` sent.
pub(crate) fn read(client: &Client, raw: &RawStatus<'_>) -> Result<DeviceStatus> {
    let unknown = |error: serde_json::Error| client.foreign(error.to_string());
    let status = Status::deserialize(&raw.status).map_err(unknown)?;
    let slots = raw.slots.as_ref().map(Slots::deserialize).transpose().map_err(unknown)?;
    let services = raw.services.as_ref().map(Vec::<Service>::deserialize).transpose().map_err(unknown)?;
    Ok(DeviceStatus { status, slots, services: services.unwrap_or_default() })
}

/// Returns the reply of `endpoint`; nothing if the device has a reason not to give one, such as another init.
fn optional(client: &Client, endpoint: &Endpoint) -> Result<Option<Value>> {
    match client.get(endpoint) {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            Some(ProblemKind::NotNow | ProblemKind::InitUnreachable | ProblemKind::NotFound) => Ok(None),
            _ => Err(error.into()),
        },
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceStatus { status, slots, services } = self;
        let slots = slots.as_ref();
        writeln!(f, "{} v{} on {}", status.name, status.version, status.hostname)?;
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<10} {value}");
        line("board", &status.board)?;
        line("kernel", &format_args!("Linux {}", status.kernel))?;
        line("build", &format_args!("{:.16}", status.build_id))?;
        line("uptime", &span(status.uptime))?;
        if let Some(slot) = status.slot {
            let state = slots.and_then(|slots| slots.state).map(SlotState::name);
            line("slot", &format_args!("{slot}, {}", state.unwrap_or("state unknown")))?;
        }
        if let Some(trial) = &status.trial {
            line("trial", &format_args!("goes back in {} unless it is confirmed", span(trial.deadline)))?;
        }
        let armed = slots.and_then(|slots| slots.armed);
        if let Some(armed) = armed {
            line("next boot", &format_args!("slot {armed}, on trial"))?;
        }
        match (&status.last_attempt, &status.failed_trial) {
            // The lines above describe it.
            (Some(attempt), _)
                if attempt.outcome == Outcome::Pending && (status.trial.is_some() || armed.is_some()) => {}
            (Some(attempt), _) => line("last trial", attempt)?,
            // Without /data there is no history, and this is known from the disk's trial note.
            (None, Some(FailedTrial { slot, build_id, reason })) => {
                line("last trial", &format_args!("build {build_id:.16} in slot {slot} failed: {reason}"))?;
            }
            (None, None) => {}
        }
        if !services.is_empty() {
            let stable = services.iter().filter(|service| service.stable).count();
            let rest = if stable < services.len() { "; not stable:" } else { "" };
            line("services", &format_args!("{stable} of {} stable{rest}", services.len()))?;
        }
        for service in services.iter().filter(|service| !service.stable) {
            line("", &format_args!("{}: {}", service.name, condition(service)))?;
        }
        let Status { memory, data, .. } = status;
        line("memory", &format_args!("{} of {} available", Bytes(memory.available), Bytes(memory.total)))?;
        let source = status.data_source.as_ref();
        let kind = match source {
            Some(source) if source.temporary.is_some() => ", in memory",
            Some(source) if source.formatted => ", formatted on request at this start",
            _ => "",
        };
        line("/data", &format_args!("{} of {} free{kind}", Bytes(data.available), Bytes(data.total)))?;
        if let Some(end) = &status.previous_end {
            line("last end", end)?;
        }
        status.degraded.iter().try_for_each(|degraded| line("degraded", degraded))
    }
}
