//! The certificate of a device: shown, exchanged, and earlier ones forgotten.

use std::fmt;

use krazy_boot::api::certificate::CertificateStatus;
use krazy_boot::digest::Sha256Hash;
use serde::Serialize;

use super::rotation;
use crate::device::Client;
use crate::failure::{Exit, Explain, Result};
use crate::provision::{self, Secrets};

/// The certificate that a device presents.
#[derive(Serialize)]
pub(crate) struct Certificate<'a> {
    host: &'a str,
    #[serde(flatten)]
    status: CertificateStatus,
}

/// A certificate that a device got.
#[derive(Serialize)]
pub(crate) struct Rotated<'a> {
    host: &'a str,
    pub(crate) sha256: Sha256Hash,
}

/// Earlier certificates that are no longer accepted.
#[derive(Serialize)]
pub(crate) struct Forgotten<'a> {
    host: &'a str,
    /// Their number.
    pub(crate) certificates: usize,
}

/// A device that would be locked out.
#[derive(Debug, thiserror::Error)]
#[error("`{device}` has an earlier certificate itself")]
struct StillNeeded {
    device: String,
}

impl Explain for StillNeeded {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(format!("run `cargo krazy certificate rotate {}` first", self.device))
    }
}

/// Asks the device of `client` for its certificate.
pub(crate) fn show(client: &Client) -> Result<Certificate<'_>> {
    Ok(Certificate { host: client.device(), status: rotation::certificate(client)? })
}

/// Gives the device a new certificate, or the present one if it has an earlier one.
pub(crate) fn rotate(client: &Client) -> Result<Rotated<'_>> {
    let sha256 = rotation::rotate_certificate(client, &secrets(client)?)?;
    Ok(Rotated { host: client.device(), sha256 })
}

/// Stops accepting earlier certificates of the appliance, if the device does not need one.
pub(crate) fn forget(client: &Client) -> Result<Forgotten<'_>> {
    let secrets = secrets(client)?;
    if rotation::certificate(client)?.sha256 != secrets.pair().sha256()? {
        return Err(StillNeeded { device: client.device().to_owned() }.into());
    }
    Ok(Forgotten { host: client.device(), certificates: secrets.forget_former_certificates()? })
}

/// The appliance's own: a certificate that only others know would lock out who made the images.
fn secrets(client: &Client) -> Result<Secrets> {
    provision::load(client.appliance(), &provision::state_dir()?)
}

impl fmt::Display for Certificate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "SHA-256    {}", self.status.sha256)?;
        if let Some(end) = &self.status.not_after {
            writeln!(f, "valid to   {end}")?;
        }
        if let Some(trial) = &self.status.trial {
            writeln!(f, "on trial   {}, for {} s more", trial.sha256, trial.remaining)?;
        }
        Ok(())
    }
}
