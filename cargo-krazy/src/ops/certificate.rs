//! The certificate of a device: shown, exchanged, and earlier ones forgotten.

use std::fmt;

use krazy_boot::api::certificate::CertificateStatus;
use krazy_boot::digest::Sha256Hash;
use serde::Serialize;

use super::{identity, rotation};
use crate::device::Client;
use crate::failure::{Exit, Explain, Result};
use crate::provision::{self, DeviceId, Secrets};

/// The certificate that a device presents.
#[derive(Serialize)]
pub(crate) struct Certificate<'a> {
    host: &'a str,
    /// The device's id, if the certificate is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    #[serde(flatten)]
    status: CertificateStatus,
}

/// A certificate that a device got.
#[derive(Serialize)]
pub(crate) struct Rotated<'a> {
    host: &'a str,
    pub(crate) sha256: Sha256Hash,
    /// The device's new id, if the certificate is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceId>,
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

/// A device that does not show whether earlier shared certificates are needed.
#[derive(Debug, thiserror::Error)]
#[error("`{device}` has a certificate of its own, which says nothing about those that devices share")]
struct SaysNothing {
    device: String,
}

impl Explain for SaysNothing {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(
            "name a device that still shares one and was rotated last; if there is none, remove \
             `former-certificates.pem` from the appliance's secrets"
                .to_owned(),
        )
    }
}

/// Asks the device of `client` for its certificate.
pub(crate) fn show(client: &Client) -> Result<Certificate<'_>> {
    let (device, status) = (client.id()?, rotation::certificate(client)?);
    Ok(Certificate { host: client.device(), device, status })
}

/// Gives the device a new certificate, or the present one if it has an earlier one. One with a certificate of its own gets
/// another one, and a token with it.
pub(crate) fn rotate(client: &Client) -> Result<Rotated<'_>> {
    let (host, secrets) = (client.device(), secrets(client)?);
    if client.id()?.is_some() {
        let given = identity::give(client, &secrets)?;
        return Ok(Rotated { host, sha256: given.sha256, device: Some(given.id) });
    }
    Ok(Rotated { host, sha256: rotation::rotate_certificate(client, &secrets)?, device: None })
}

/// Stops accepting earlier certificates of the appliance, if the device does not need one.
pub(crate) fn forget(client: &Client) -> Result<Forgotten<'_>> {
    let secrets = secrets(client)?;
    if client.id()?.is_some() {
        return Err(SaysNothing { device: client.device().to_owned() }.into());
    }
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
        match self.device {
            Some(id) => writeln!(f, "device     {id}")?,
            None => {
                writeln!(f, "device     shares it with others of its image, until the next confirmed push")?
            }
        }
        if let Some(end) = &self.status.not_after {
            writeln!(f, "valid to   {end}")?;
        }
        if let Some(trial) = &self.status.trial {
            writeln!(f, "on trial   {}, for {} s more", trial.sha256, trial.remaining)?;
        }
        Ok(())
    }
}
