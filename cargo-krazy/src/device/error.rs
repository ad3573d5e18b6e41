//! Failures of requests to a device, with the next step.

use krazy_boot::api::problem::{ProblemDetails, ProblemKind};
use krazy_boot::disk::size::Bytes;
use krazy_boot::update::refusal::Refusal;

use super::credentials::{self, VARIABLE};
use crate::failure::{Exit, Explain, Failure};

/// A failed request to a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// Nothing responds at the address.
    #[error("`{device}` was not reached at {address}: {why}")]
    Unreachable {
        /// The name that the user gave.
        device: String,
        /// The address.
        address: String,
        /// The cause.
        why: String,
    },
    /// It has another certificate.
    #[error(
        "`{device}` does not have the certificate of the appliance `{appliance}`: its SHA-256 is {found}{}",
        .pinned.as_ref().map(|pinned| format!(", not {pinned}")).unwrap_or_default()
    )]
    Certificate {
        /// The name that the user gave.
        device: String,
        /// The appliance whose certificate was expected.
        appliance: String,
        /// SHA-256 of the device's certificate in hex.
        found: String,
        /// SHA-256 of the expected certificate in hex, if there is one.
        pinned: Option<String>,
    },
    /// The device sent a problem.
    #[error("`{device}` refused: {}", if problem.detail.is_empty() { &problem.title } else { &problem.detail })]
    Refused {
        /// The name that the user gave.
        device: String,
        /// The appliance whose credentials were sent.
        appliance: String,
        /// Set if the device has shown a certificate of its own.
        own: bool,
        /// The problem.
        problem: Box<ProblemDetails>,
    },
    /// The connection ended before the response was complete.
    #[error("the connection to `{device}` broke: {why}")]
    Broken {
        /// The name that the user gave.
        device: String,
        /// The cause.
        why: String,
    },
    /// The response is not one of this API, or is one of another version.
    #[error("the answer of `{device}` was not understood: {why}")]
    Foreign {
        /// The name that the user gave.
        device: String,
        /// The reason.
        why: String,
    },
    /// A response beyond the limit.
    #[error("the answer of `{device}` has more than {limit}")]
    TooLong {
        /// The name that the user gave.
        device: String,
        /// The limit.
        limit: Bytes,
    },
    /// A failure on this machine: a file, an interrupt, an option.
    #[error(transparent)]
    Local(#[from] Failure),
}

impl DeviceError {
    /// The problem, if the device sent one.
    pub(crate) fn problem(&self) -> Option<&ProblemDetails> {
        match self {
            DeviceError::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The kind of the problem, if the device sent one that is known here.
    pub(crate) fn kind(&self) -> Option<ProblemKind> {
        self.problem()?.kind()
    }

    /// The reason for which the device rejected an update, if it did.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.kind()? {
            ProblemKind::Update(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Returns true if the device does not know the token.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.kind() == Some(ProblemKind::Unauthorized)
    }

    /// Returns true if the same request may succeed later: the device restarts, or the connection is bad.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, DeviceError::Unreachable { .. } | DeviceError::Broken { .. })
    }
}

impl Explain for DeviceError {
    fn exit(&self) -> Exit {
        match self {
            DeviceError::Local(failure) => failure.exit(),
            _ => Exit::Device,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            DeviceError::Local(failure) => return failure.next_step().map(str::to_owned),
            DeviceError::Refused { device, own: true, .. } if self.is_unauthorized() => {
                return Some(format!(
                    "its certificate is the right one, so its token was revoked, or {VARIABLE} holds another one. With a \
                     token of an admin that it knows, `{VARIABLE}=krz_… cargo krazy certificate rotate {device}` gives it \
                     credentials that this machine has",
                ));
            }
            DeviceError::Refused { appliance, problem, .. } => return help_for(problem, appliance),
            DeviceError::Unreachable { .. } => {
                "check that it is switched on, has started, and is in the same network; its address; and that a \
                 firewall lets its TCP port through (8443 unless the address says otherwise)"
            }
            DeviceError::Certificate { appliance, .. } if credentials::given() => {
                return Some(format!(
                    "it is another device than you think, or someone is in between; nothing was sent. Or the device has \
                     a certificate of its own now: ask the owner of `{appliance}` for `secrets/authority.pem` of its \
                     directory, and put it at that place in this machine's state directory",
                ));
            }
            DeviceError::Certificate { appliance, .. } => {
                return Some(format!(
                    "it is another device than you think, or was provisioned on another machine, or someone is in \
                     between; nothing was sent. If it is another appliance, name it with `--appliance`; if \
                     `{appliance}` was provisioned elsewhere, copy its directory from that machine's state directory",
                ));
            }
            DeviceError::Broken { .. } => "check the network, and run the command again",
            DeviceError::Foreign { .. } | DeviceError::TooLong { .. } => {
                "is it a device of cargo krazy, and not much older or newer than this program? `cargo krazy status` \
                 shows its version"
            }
        };
        Some(help.to_owned())
    }
}

/// The next step after a refusal whose detail does not name it.
fn help_for(problem: &ProblemDetails, appliance: &str) -> Option<String> {
    let help = match problem.kind()? {
        ProblemKind::Unauthorized => format!(
            "the token of `{appliance}` on this machine, or the one in {VARIABLE} if that is set, is not the device's: \
             it was revoked there, or the device was provisioned on another machine; copy the appliance's directory \
             from that machine's state directory, or ask its owner for a token (`cargo krazy token add`)",
        ),
        // Nobody's token changes that.
        ProblemKind::Forbidden if problem.detail.contains("signed updates only") => return None,
        ProblemKind::Forbidden => format!(
            "the token in use has another role or scope; {VARIABLE} can hold another token, and `cargo krazy token \
             list` shows an admin the role of each"
        ),
        ProblemKind::TooManyAttempts => "wait a minute, and use the right credentials".to_owned(),
        ProblemKind::TooManyLiveLogs => "end another `cargo krazy logs --follow`".to_owned(),
        ProblemKind::NoSuchService => "`cargo krazy ps` lists the services".to_owned(),
        ProblemKind::OutsideTree => {
            "files are below /data; logs are /tmp/SERVICE.log and /tmp/SERVICE.err".to_owned()
        }
        ProblemKind::InitUnreachable => {
            "the device's /bin/init is another program than krazy-init, or hangs".to_owned()
        }
        ProblemKind::DiskFull => "make room on its /data, or write a smaller file".to_owned(),
        ProblemKind::NotFound if problem.is_unknown_operation() => {
            "the device runs an older krazy-admind that cannot do this yet".to_owned()
        }
        _ => return None,
    };
    Some(help)
}
