//! How a push ended on one device.

use krazy_boot::disk::slot::Slot;
use serde::Serialize;

use super::upload::Sent;
use crate::device::Client;
use crate::device::status::span;
use crate::failure::{Exit, Failure};
use crate::shell::Shell;

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// It runs the new build.
    Updated {
        /// From this slot.
        slot: Slot,
        /// What it took.
        sent: Sent,
        /// Whether it stays.
        confirmed: bool,
        /// Seconds until it goes back, if it does not.
        deadline: Option<u64>,
    },
    /// The new build is in the slot that does not run, complete and verified.
    Staged {
        /// That slot.
        slot: Slot,
        /// What it took.
        sent: Sent,
    },
    /// It ran this build already.
    Unchanged {
        /// From this slot.
        slot: Slot,
    },
    /// It tried the new build and went back.
    Reverted {
        /// The slot it runs from.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// Something went wrong; what it runs has not been changed, or is not known.
    Failed {
        /// `preflight`, `upload` or `restart`.
        step: &'static str,
        /// What.
        error: anyhow::Error,
    },
}

/// The same with the device.
#[derive(Debug)]
pub struct Report {
    /// As the user calls it.
    pub host: String,
    /// How it ended there.
    pub outcome: Outcome,
}

/// A report as `--message-format json` prints it.
#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    outcome: &'static str,
    slot: Option<Slot>,
    confirmed: Option<bool>,
    /// Bytes sent, and bytes the device had already.
    sent: Option<u64>,
    copied: Option<u64>,
    breaks: Option<u32>,
    seconds: Option<f64>,
    /// Why it failed.
    cause: Option<String>,
    help: Option<&'a str>,
}

impl Outcome {
    /// A failure in `step`.
    pub fn failed(step: &'static str, error: anyhow::Error) -> Self {
        Outcome::Failed { step, error }
    }

    /// Whether the device got what was to be pushed.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Updated { .. } | Outcome::Staged { .. } | Outcome::Unchanged { .. })
    }

    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Updated { confirmed: true, .. } => "updated",
            Outcome::Updated { confirmed: false, .. } => "on-trial",
            Outcome::Staged { .. } => "staged",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Reverted { .. } => "reverted",
            Outcome::Failed { .. } => "failed",
        }
    }

    /// The rest in a few words.
    pub fn detail(&self) -> String {
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

    /// Says it as soon as it is known.
    pub fn announce(&self, host: &str, shell: Shell) {
        let text = format!("`{host}`: {}", self.detail());
        match self {
            Outcome::Updated { confirmed: true, .. } => shell.status("Updated", text),
            Outcome::Updated { confirmed: false, .. } => shell.status("On trial", text),
            Outcome::Staged { .. } => shell.status("Staged", text),
            Outcome::Unchanged { .. } => shell.status("Unchanged", text),
            // The summary or the error says it.
            Outcome::Reverted { .. } | Outcome::Failed { .. } => {}
        }
    }
}

impl Report {
    /// How it ended on the device of `client`.
    pub fn new(client: &Client, outcome: Outcome) -> Self {
        Report { host: client.device().to_owned(), outcome }
    }

    /// The report as an object for programs.
    pub fn message(&self) -> impl Serialize {
        let (slot, sent, confirmed) = match &self.outcome {
            Outcome::Updated { slot, sent, confirmed, .. } => (Some(*slot), Some(sent), Some(*confirmed)),
            Outcome::Staged { slot, sent } => (Some(*slot), Some(sent), Some(false)),
            Outcome::Unchanged { slot } | Outcome::Reverted { slot, .. } => (Some(*slot), None, None),
            Outcome::Failed { .. } => (None, None, None),
        };
        let (cause, help) = match &self.outcome {
            Outcome::Reverted { reason, .. } => (Some(reason.clone()), None),
            Outcome::Failed { error, .. } => (Some(format!("{error:#}")), Failure::help_of(error)),
            _ => (None, None),
        };
        Message {
            reason: "push-finished",
            host: &self.host,
            outcome: self.outcome.word(),
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

    /// The error this is, if the device does not run what was pushed.
    pub fn into_error(self) -> Option<anyhow::Error> {
        match self.outcome {
            Outcome::Updated { .. } | Outcome::Staged { .. } | Outcome::Unchanged { .. } => None,
            Outcome::Reverted { slot, reason } => {
                let text = format!("`{}` went back to the old build in slot {slot}: {reason}", self.host);
                let help = format!(
                    "fix that and push again; `cargo krazy logs {} SERVICE` has what the service wrote since",
                    self.host
                );
                Some(Failure::new(Exit::Device, text).help(help).into())
            }
            Outcome::Failed { error, .. } => Some(error),
        }
    }
}
