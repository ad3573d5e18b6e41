//! What can go wrong with a device, and what to do then.

use krazy_boot::disk::size::Bytes;
use serde::{Deserialize, Serialize};

use super::credentials::VARIABLE;
use crate::failure::{Exit, Failure};

/// Problem details as admind sends them (RFC 9457, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:krazy:` and the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// The kind without its prefix: `not-now`, `unauthorized`.
    pub fn slug(&self) -> &str {
        self.kind.strip_prefix("urn:krazy:").unwrap_or(&self.kind)
    }
}

/// Why a request to a device had no success.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Nothing answers there.
    #[error("`{device}` was not reached at {address}: {why}")]
    Unreachable {
        /// As the user calls it.
        device: String,
        /// Where it should be.
        address: String,
        /// The cause.
        why: String,
    },
    /// It has another certificate.
    #[error(
        "`{device}` does not have the certificate of the appliance `{appliance}`: its SHA-256 is {found}, \
         not {pinned}"
    )]
    Certificate {
        /// As the user calls it.
        device: String,
        /// Whose certificate was expected.
        appliance: String,
        /// Hex.
        found: String,
        /// Hex.
        pinned: String,
    },
    /// It said no.
    #[error("`{device}` refused: {}", if problem.detail.is_empty() { &problem.title } else { &problem.detail })]
    Refused {
        /// As the user calls it.
        device: String,
        /// Whose credentials were sent.
        appliance: String,
        /// Its answer.
        problem: Box<Problem>,
    },
    /// The connection ended before the answer was complete.
    #[error("the connection to `{device}` broke: {why}")]
    Broken {
        /// As the user calls it.
        device: String,
        /// The cause.
        why: String,
    },
    /// Something answered that is not our API, or is another version of it.
    #[error("the answer of `{device}` was not understood: {why}")]
    Foreign {
        /// As the user calls it.
        device: String,
        /// What is odd.
        why: String,
    },
    /// An answer beyond every sensible size.
    #[error("the answer of `{device}` has more than {limit}")]
    TooLong {
        /// As the user calls it.
        device: String,
        /// What is taken.
        limit: Bytes,
    },
    /// This machine: a file, the interrupt, the options.
    #[error(transparent)]
    Local(#[from] Failure),
}

impl DeviceError {
    /// The problem, if the device sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            DeviceError::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the device does not know the token.
    pub fn is_unauthorized(&self) -> bool {
        self.problem().is_some_and(|problem| problem.slug() == "unauthorized")
    }

    /// Whether the same request may succeed a little later: the device restarts, or the line is bad.
    pub fn is_transient(&self) -> bool {
        matches!(self, DeviceError::Unreachable { .. } | DeviceError::Broken { .. })
    }

    /// The same with an exit code and the next step.
    pub fn into_failure(self) -> Failure {
        let text = self.to_string();
        let failure = Failure::new(Exit::Device, text);
        match self {
            DeviceError::Local(failure) => failure,
            DeviceError::Unreachable { .. } => failure.help(
                "check that it is switched on, has started, and is in the same network; its address; and that a \
                 firewall lets its TCP port through (8443 unless the address says otherwise)",
            ),
            DeviceError::Certificate { appliance, .. } => failure.help(format!(
                "it is another device than you think, or was provisioned on another machine, or someone is in \
                 between; nothing was sent. If it is another appliance, name it with `--appliance`; if `{appliance}` \
                 was provisioned elsewhere, copy its folder from that machine's state directory",
            )),
            DeviceError::Refused { appliance, problem, .. } => match help_for(&problem, &appliance) {
                Some(help) => failure.help(help),
                None => failure,
            },
            DeviceError::Broken { .. } => failure.help("check the network, and run the command again"),
            DeviceError::Foreign { .. } | DeviceError::TooLong { .. } => failure.help(
                "is it a device of cargo krazy, and not much older or newer than this program? `cargo krazy status` \
                 tells its version",
            ),
        }
    }
}

/// The next step after a refusal, where there is one that the device's own words do not tell.
fn help_for(problem: &Problem, appliance: &str) -> Option<String> {
    let help = match problem.slug() {
        "unauthorized" => format!(
            "the token of `{appliance}` on this machine, or the one in {VARIABLE} if that is set, is not the device's: \
             it was revoked there, or the device was provisioned on another machine; copy the appliance's folder from \
             that machine's state directory, or ask its owner for a token (`cargo krazy token add`)",
        ),
        "forbidden" => format!(
            "the token in use has another role or scope; {VARIABLE} can hold another token, and `cargo krazy token \
             list` tells an admin what each may do"
        ),
        "too-many-attempts" => "wait a minute, and use the right credentials".to_owned(),
        "too-many-live-logs" => "end another `cargo krazy logs --follow`".to_owned(),
        "no-such-service" => "`cargo krazy ps` lists the services".to_owned(),
        "outside-tree" => "files are below /data; logs are /tmp/SERVICE.log and /tmp/SERVICE.err".to_owned(),
        "init-unreachable" => {
            "the device's /bin/init is another program than krazy-init, or hangs".to_owned()
        }
        "disk-full" => "make room on its /data, or write a smaller file".to_owned(),
        "not-found" if problem.detail.contains("not part of the API") => {
            "the device runs an older krazy-admind that cannot do this yet".to_owned()
        }
        _ => return None,
    };
    Some(help)
}
