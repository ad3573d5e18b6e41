//! `cargo krazy certificate`.

use krazy_boot::api::certificate::CertificateStatus;
use krazy_boot::digest::Sha256Hash;
use serde::Serialize;

use crate::device::{Client, DeviceArgs, DeviceError, rotation};
use crate::failure::{Exit, Failure};
use crate::provision::{self, Secrets};
use crate::shell::{MessageFormat, Shell};

/// Shows and exchanges the certificate of a device
///
/// The certificate was made with the appliance's first image, and only that one is accepted, whatever its dates are.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy certificate show kitchen
  cargo krazy certificate rotate kitchen
  cargo krazy certificate rotate attic       the same certificate for another device of the appliance
  cargo krazy certificate forget attic       all have it: no earlier one is accepted any more")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows the fingerprint and the end of the certificate's validity
    Show(DeviceArgs),
    /// Brings a new certificate and key to a device
    ///
    /// The pair is made here and tried beside the old one, which counts until this program was answered with the new
    /// one. Interrupted, it can be run again; both are accepted until it is finished. New images get the new pair. A
    /// device that has an earlier pair of its appliance gets the present one.
    Rotate(DeviceArgs),
    /// Stops accepting earlier certificates of the appliance, after the device has shown the present one
    Forget(DeviceArgs),
}

#[derive(Serialize)]
struct Shown<'a> {
    reason: &'static str,
    host: &'a str,
    #[serde(flatten)]
    status: &'a CertificateStatus,
}

#[derive(Serialize)]
struct Rotated<'a> {
    reason: &'static str,
    host: &'a str,
    sha256: Sha256Hash,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    reason: &'static str,
    host: &'a str,
    certificates: usize,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        match self.action {
            Action::Show(device) => show(&device.client()?, shell),
            Action::Rotate(device) => rotate(&device.client()?, shell),
            Action::Forget(device) => forget(&device.client()?, shell),
        }
    }
}

fn show(client: &Client, shell: Shell) -> anyhow::Result<()> {
    let status = rotation::certificate(client).map_err(DeviceError::into_failure)?;
    if shell.format() == MessageFormat::Json {
        return shell.message(&Shown { reason: "certificate", host: client.device(), status: &status });
    }
    let mut text = format!("SHA-256    {}\n", status.sha256);
    if let Some(end) = &status.not_after {
        text.push_str(&format!("valid to   {end}\n"));
    }
    if let Some(trial) = &status.trial {
        text.push_str(&format!("on trial   {}, for {} s more\n", trial.sha256, trial.remaining));
    }
    shell.output(text)
}

fn rotate(client: &Client, shell: Shell) -> anyhow::Result<()> {
    let sha256 = rotation::rotate_certificate(client, &secrets(client)?)?;
    let host = client.device();
    shell.status("Rotated", format!("certificate of `{host}`, SHA-256 {sha256}"));
    shell.note(format!(
        "other devices of `{0}` keep the earlier one, which is still accepted, until they are rotated, too; \
         `cargo krazy certificate forget {host}` ends that",
        client.appliance()
    ));
    shell.message(&Rotated { reason: "certificate-rotated", host, sha256 })
}

fn forget(client: &Client, shell: Shell) -> anyhow::Result<()> {
    let (secrets, host) = (secrets(client)?, client.device());
    let found = rotation::certificate(client).map_err(DeviceError::into_failure)?.sha256;
    if found != secrets.pair().sha256()? {
        return Err(Failure::new(Exit::Device, format!("`{host}` has an earlier certificate itself"))
            .help(format!("run `cargo krazy certificate rotate {host}` first"))
            .into());
    }
    let certificates = secrets.forget_former_certificates()?;
    shell.status("Forgot", format!("{certificates} earlier certificates of `{}`", client.appliance()));
    shell.message(&Forgotten { reason: "certificates-forgotten", host, certificates })
}

/// The appliance's own: a certificate that only others know would lock out who made the images.
fn secrets(client: &Client) -> anyhow::Result<Secrets> {
    provision::load(client.appliance(), &provision::state_dir()?)
}
