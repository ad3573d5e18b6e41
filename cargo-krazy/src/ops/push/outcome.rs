//! The outcome of a push on one device, and on all.

use std::borrow::Cow;

use krazy_boot::disk::slot::Slot;
use serde::Serialize;

use super::upload::Sent;
use crate::device::Client;
use crate::device::status::span;
use crate::failure::{Exit, Explain, Failure, Result, chain};
use crate::shell::{MessageFormat, Shell};
use crate::table::Table;

/// The outcome on one device.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The device runs the new build.
    Updated {
        /// The active slot.
        slot: Slot,
        /// The upload.
        sent: Sent,
        /// Set when the build stays.
        confirmed: bool,
        /// Seconds until the device goes back, if the build does not stay.
        deadline: Option<u64>,
    },
    /// The new build is in the inactive slot, complete and verified.
    Staged {
        /// That slot.
        slot: Slot,
        /// The upload.
        sent: Sent,
    },
    /// The device ran this build already.
    Unchanged {
        /// The active slot.
        slot: Slot,
    },
    /// The device tried the new build and went back.
    Reverted {
        /// The active slot.
        slot: Slot,
        /// The reason.
        reason: String,
    },
    /// The push failed; the running build has not changed, or is not known.
    Failed {
        /// `preflight`, `upload` or `restart`.
        step: &'static str,
        /// The cause.
        error: Failure,
    },
}

/// A device and its outcome.
#[derive(Debug)]
pub(super) struct Report {
    /// The device, as the user calls it.
    host: String,
    outcome: Outcome,
}

/// A report as `--message-format json` prints it.
#[derive(Serialize)]
struct Message<'a> {
    host: &'a str,
    outcome: &'static str,
    slot: Option<Slot>,
    confirmed: Option<bool>,
    /// Bytes sent, and bytes that the device had already.
    sent: Option<u64>,
    copied: Option<u64>,
    breaks: Option<u32>,
    seconds: Option<f64>,
    /// The reason of a failure.
    cause: Option<String>,
    help: Option<Cow<'a, str>>,
}

impl Outcome {
    /// Returns a failure in `step`.
    pub(super) fn failed(step: &'static str, error: Failure) -> Self {
        Outcome::Failed { step, error }
    }

    /// Returns true if the device got what was pushed.
    fn is_success(&self) -> bool {
        matches!(self, Outcome::Updated { .. } | Outcome::Staged { .. } | Outcome::Unchanged { .. })
    }

    /// Returns true if the device runs what was pushed, and stays with it.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Outcome::Updated { confirmed: true, .. } | Outcome::Unchanged { .. })
    }

    /// Returns its name, for tables and programs.
    fn name(&self) -> &'static str {
        match self {
            Outcome::Updated { confirmed: true, .. } => "updated",
            Outcome::Updated { confirmed: false, .. } => "on-trial",
            Outcome::Staged { .. } => "staged",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Reverted { .. } => "reverted",
            Outcome::Failed { .. } => "failed",
        }
    }

    /// Returns slot, upload and reason.
    fn detail(&self) -> String {
        match self {
            Outcome::Updated { slot, sent, deadline, .. } => {
                let text = format!("slot {slot}; {sent}");
                match deadline {
                    Some(deadline) => {
                        format!("{text}; goes back in {} unless it is confirmed", span(*deadline))
                    }
                    None => text,
                }
            }
            Outcome::Staged { slot, sent } => format!("slot {slot} is ready; {sent}"),
            Outcome::Unchanged { slot } => format!("slot {slot} runs this build"),
            Outcome::Reverted { slot, reason } => format!("back in slot {slot}: {reason}"),
            Outcome::Failed { step, error } => format!("{step}: {error}"),
        }
    }

    /// Reports a success at once.
    pub(super) fn announce(&self, host: &str, shell: Shell) {
        let text = format!("`{host}`: {}", self.detail());
        match self {
            Outcome::Updated { confirmed: true, .. } => shell.status("Updated", text),
            Outcome::Updated { confirmed: false, .. } => shell.status("On trial", text),
            Outcome::Staged { .. } => shell.status("Staged", text),
            Outcome::Unchanged { .. } => shell.status("Unchanged", text),
            // The summary or the error of the command reports it.
            Outcome::Reverted { .. } | Outcome::Failed { .. } => {}
        }
    }
}

impl Report {
    /// Returns the report for the device of `client`.
    pub(super) fn new(client: &Client, outcome: Outcome) -> Self {
        Report { host: client.device().to_owned(), outcome }
    }

    fn message(&self) -> Message<'_> {
        let (slot, sent, confirmed) = match &self.outcome {
            Outcome::Updated { slot, sent, confirmed, .. } => (Some(*slot), Some(sent), Some(*confirmed)),
            Outcome::Staged { slot, sent } => (Some(*slot), Some(sent), Some(false)),
            Outcome::Unchanged { slot } | Outcome::Reverted { slot, .. } => (Some(*slot), None, None),
            Outcome::Failed { .. } => (None, None, None),
        };
        let (cause, help) = match &self.outcome {
            Outcome::Reverted { reason, .. } => {
                (Some(reason.clone()), Some(reverted_help(&self.host, reason).into()))
            }
            Outcome::Failed { error, .. } => (Some(chain(error)), error.next_step().map(Cow::Borrowed)),
            _ => (None, None),
        };
        Message {
            host: &self.host,
            outcome: self.outcome.name(),
            slot,
            confirmed,
            sent: sent.map(|sent| sent.bytes.0),
            copied: sent.map(|sent| sent.copied.0),
            breaks: sent.map(|sent| sent.breaks),
            seconds: sent.map(|sent| sent.time.as_secs_f64()),
            cause,
            help,
        }
    }

    /// Returns the failure, if the device does not run what was pushed.
    fn into_failure(self) -> Option<Failure> {
        match self.outcome {
            Outcome::Updated { .. } | Outcome::Staged { .. } | Outcome::Unchanged { .. } => None,
            Outcome::Reverted { slot, reason } => {
                Some(PushError::Reverted { device: self.host, slot, reason }.into())
            }
            Outcome::Failed { error, .. } => Some(error),
        }
    }
}

/// The reports of all devices.
pub(crate) struct Reports(pub(super) Vec<Report>);

/// A push that did not succeed on every device.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("`{device}` went back to the old build in slot {slot}: {reason}")]
    Reverted { device: String, slot: Slot, reason: String },
    #[error("{failed} of {all} devices do not run what was pushed")]
    Several { failed: usize, all: usize },
}

impl Explain for PushError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            PushError::Reverted { device, reason, .. } => reverted_help(device, reason),
            PushError::Several { .. } => {
                "see above; `cargo krazy push` to one of them shows the next step".to_owned()
            }
        })
    }
}

/// Returns the next step after `device` went back for `reason`.
fn reverted_help(device: &str, reason: &str) -> String {
    // The device names the service first; its text is no format, so nothing but this help depends on it.
    let service = reason.strip_prefix("service ").and_then(|rest| rest.split_once(" keeps exiting"));
    let service = service.map(|(name, _)| name).filter(|name| !name.contains(' '));
    let program = match service {
        Some(name) => format!(
            "If `{name}` is a command for people and no daemon, write `start = \"manual\"` in \
             [package.metadata.krazy.service.{name}]; if the device can do without it, `required = false`"
        ),
        None => "A service that need not be stable is one with `required = false` in \
                 [package.metadata.krazy.service.NAME]"
            .to_owned(),
    };
    let logs = service.unwrap_or("SERVICE");
    format!(
        "fix that and push again; `cargo krazy logs {device} {logs}` has what the service wrote since. {program}"
    )
}

impl Reports {
    /// Writes the reports: messages for programs, and a table of several devices for people.
    pub(crate) fn announce(&self, shell: Shell) -> Result<()> {
        self.0.iter().try_for_each(|report| shell.message("push-finished", &report.message()))?;
        if self.0.len() > 1 && shell.format() == MessageFormat::Human {
            let mut table = Table::new(["HOST", "OUTCOME", "DETAIL"]);
            for Report { host, outcome } in &self.0 {
                table.row([host.clone(), outcome.name().to_owned(), outcome.detail()]);
            }
            shell.output(table.to_string())?;
        }
        Ok(())
    }

    /// Fails if a device does not run what was pushed.
    pub(crate) fn into_result(mut self) -> Result<()> {
        let all = self.0.len();
        let failed = self.0.iter().filter(|report| !report.outcome.is_success()).count();
        if all > 1 && failed > 0 {
            return Err(PushError::Several { failed, all }.into());
        }
        self.0.pop().and_then(Report::into_failure).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_keeps_exiting_is_named_with_its_keys() {
        let help = reverted_help(
            "roof",
            "service ctl keeps exiting: exit status 2; it wrote last: usage: ctl COMMAND",
        );
        assert!(help.contains("`cargo krazy logs roof ctl`"), "{help}");
        assert!(help.contains("`start = \"manual\"` in [package.metadata.krazy.service.ctl]"), "{help}");
        let help = reverted_help("roof", "the boot loader found no kernel");
        assert!(help.contains("[package.metadata.krazy.service.NAME]") && !help.contains("manual"), "{help}");
    }
}
