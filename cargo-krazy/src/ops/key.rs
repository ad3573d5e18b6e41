//! The keys whose updates a device accepts: shown, exchanged, and brought to devices that lag behind.
//!
//! A device takes new keys only with a signature by one that it has, whatever the token. So the first device gets the next
//! key; further devices still have earlier ones, which are kept, and get the same key by `rotate` or by their next push.

use std::fmt;

use krazy_boot::api::Endpoint;
use krazy_boot::api::update::{KeyChange, StatusQuery, UpdateStatus};
use krazy_boot::digest::Hex;
use krazy_boot::update::bundle::Signed;
use serde::Serialize;

use super::refusal::RefusedUpdate;
use crate::bundle::Bundle;
use crate::device::Client;
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision::{self, UpdateSigner};
use crate::shell::Shell;

/// The keys of a device.
#[derive(Serialize)]
pub(crate) struct UpdateKeys<'a> {
    host: &'a str,
    keys: Vec<String>,
}

/// A key that a device got.
#[derive(Serialize)]
pub(crate) struct Rotated<'a> {
    host: &'a str,
    pub(crate) key: String,
}

/// Keys that could not be exchanged.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("`{device}` tells no update keys")]
    None { device: String },
    #[error("`{device}` has none of the update keys of `{appliance}`")]
    Unknown { device: String, appliance: String },
    #[error("the exchange is not finished: {error}")]
    Unfinished { device: String, error: Failure },
    #[error("`{device}` has not taken the new update key")]
    NotTaken { device: String },
}

impl Explain for KeyError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            KeyError::None { device } => format!(
                "the build that it runs cannot replace them, or they are damaged: `cargo krazy push {device}` first, then \
                 run this again"
            ),
            KeyError::Unknown { .. } => {
                "run this on the machine that made the device's image, or with a copy of the appliance's directory from \
                 that machine's state directory"
                    .to_owned()
            }
            KeyError::Unfinished { device, .. } => {
                format!("run the command again when `{device}` answers; until then it has the earlier key or the new one")
            }
            KeyError::NotTaken { .. } => "run the command again; the earlier key still works".to_owned(),
        })
    }
}

/// Asks the device of `client` for its keys.
pub(crate) fn show(client: &Client) -> Result<UpdateKeys<'_>> {
    match keys(client)? {
        keys if keys.is_empty() => Err(KeyError::None { device: client.device().to_owned() }.into()),
        keys => Ok(UpdateKeys { host: client.device(), keys }),
    }
}

/// Gives the device a new key, or the present one if it has an earlier one.
pub(crate) fn rotate(client: &Client) -> Result<Rotated<'_>> {
    let device = || client.device().to_owned();
    let UpdateKeys { keys: found, .. } = show(client)?;
    // Not earlier: another device may get the next key meanwhile.
    let state = provision::state_dir()?;
    let secrets = provision::load(client.appliance(), &state)?;
    let has_present = found.contains(&text(secrets.update_key())?);
    let next = match secrets.next_update_key()? {
        Some(next) => Some(next),
        None if has_present => Some(secrets.make_next_update_key()?),
        None => None,
    };
    let wanted = next.as_ref().unwrap_or(secrets.update_key());
    let key = text(wanted)?;
    let signers = Signers::of(client.appliance())?;
    signers.replace(client, &found, wanted)?;
    // The response may be lost although the device has the key; the next request shows it.
    let taken = keys(client).map_err(|error| KeyError::Unfinished { device: device(), error })?;
    if !taken.contains(&key) {
        return Err(KeyError::NotTaken { device: device() }.into());
    }
    if next.is_some() {
        secrets.adopt_next_update_key()?;
    }
    Ok(Rotated { host: client.device(), key })
}

/// The keys of an appliance.
pub(crate) struct Signers {
    present: UpdateSigner,
    /// The one on its way to devices.
    next: Option<UpdateSigner>,
    /// Earlier ones, the newest first.
    former: Vec<UpdateSigner>,
}

impl Signers {
    /// Those of `appliance`.
    pub(crate) fn of(appliance: &str) -> Result<Self> {
        let state = provision::state_dir()?;
        let secrets = provision::load(appliance, &state)?;
        let (next, former) = (secrets.next_update_key()?, provision::former_update_keys(appliance, &state)?);
        Ok(Signers { present: secrets.into_update_key(), next, former })
    }

    /// All of them, the likeliest first.
    fn all(&self) -> impl Iterator<Item = &UpdateSigner> {
        [&self.present].into_iter().chain(&self.next).chain(&self.former)
    }

    /// Returns the signatures of `bundle`, which the present key has signed, that a device with the keys `found` may
    /// accept, the likeliest first. A device that has only an earlier key gets the present one.
    pub(crate) fn sign(
        &self,
        client: &Client,
        found: &[String],
        bundle: &Bundle,
        shell: Shell,
    ) -> Result<Vec<Signed>> {
        if found.is_empty() {
            // It does not tell. Which key it has depends on its image, and on builds that it ran before.
            return self.all().map(|key| bundle.signed_with(key)).collect();
        }
        let Some(own) = self.of_device(found)? else { return Ok(vec![bundle.signed.clone()]) };
        let mut signed = vec![bundle.signed_with(own)?];
        if self.former.iter().any(|former| std::ptr::eq(former, own)) {
            // Whatever prevents the exchange, such as a full disk: it takes the update that may be its cure. And if only
            // the response was lost, it has the present key.
            if let Err(error) = self.replace(client, found, &self.present) {
                let device = client.device();
                shell.warn(format!(
                    "`{device}` keeps its earlier update key: {error}; `cargo krazy key rotate {device}` tries again"
                ));
            }
            signed.insert(0, bundle.signed.clone());
        }
        Ok(signed)
    }

    /// Makes `wanted` the key of a device that has the keys `found`, with the signature of one of them. Keys that are not
    /// the appliance's stay.
    fn replace(&self, client: &Client, found: &[String], wanted: &UpdateSigner) -> Result<()> {
        let own = self.all().map(text).collect::<anyhow::Result<Vec<_>>>()?;
        let foreign = found.iter().filter(|key| !own.contains(key)).cloned();
        let keys: Vec<String> = [text(wanted)?].into_iter().chain(foreign).collect();
        if keys == found {
            return Ok(());
        }
        let keys: String = keys.iter().map(|key| format!("{key}\n")).collect();
        let Some(signer) = self.of_device(found)? else {
            let (device, appliance) = (client.device().to_owned(), client.appliance().to_owned());
            return Err(KeyError::Unknown { device, appliance }.into());
        };
        let signature = Hex(signer.sign(&KeyChange::message(&keys))?);
        let body = serde_json::to_vec(&KeyChange { keys, signature }).map_err(Failure::other)?;
        match client.call_with(&Endpoint::SetUpdateKeys, body) {
            Err(error) if !error.is_transient() => Err(RefusedUpdate(error).into()),
            _ => Ok(()),
        }
    }

    /// Returns one of the appliance's keys that is among `found`.
    fn of_device(&self, found: &[String]) -> Result<Option<&UpdateSigner>> {
        for signer in self.all() {
            if found.contains(&text(signer)?) {
                return Ok(Some(signer));
            }
        }
        Ok(None)
    }
}

fn keys(client: &Client) -> Result<Vec<String>> {
    let status: UpdateStatus = client.get(&Endpoint::UpdateStatus { query: StatusQuery::default() })?;
    Ok(status.keys)
}

fn text(signer: &UpdateSigner) -> anyhow::Result<String> {
    Ok(signer.public()?.to_string())
}

impl fmt::Display for UpdateKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|key| writeln!(f, "{key}"))
    }
}
