//! The keys whose updates a device accepts: shown, exchanged, and brought to devices that lag behind.
//!
//! A device takes new keys only with a signature by one that it has, whatever the token. So the first device gets the next
//! key; further devices still have earlier ones, which are kept, and get the same key by `rotate` or by their next push.

use std::fmt;

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::UpdateKey;
use krazy_boot::api::update::{KeyChange, StatusQuery, UpdateStatus};
use krazy_boot::digest::Hex;
use krazy_boot::update::bundle::Signed;
use serde::Serialize;

use super::refusal::RefusedUpdate;
use crate::bundle::Bundle;
use crate::device::Client;
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision::{self, UpdateSigner};

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
    #[error("the build that `{device}` runs cannot replace its update keys")]
    TooOld { device: String },
    #[error("`{device}` has none of the update keys of `{appliance}`")]
    Unknown { device: String, appliance: String },
    #[error("`{device}` has not taken the new update key")]
    NotTaken { device: String },
}

impl Explain for KeyError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            KeyError::TooOld { device } => format!("`cargo krazy push {device}` first, then run this again"),
            KeyError::Unknown { .. } => {
                "run this on the machine that made the device's image, or with a copy of the appliance's directory from \
                 that machine's state directory"
                    .to_owned()
            }
            KeyError::NotTaken { .. } => "run the command again; the earlier key still works".to_owned(),
        })
    }
}

/// Asks the device of `client` for its keys.
pub(crate) fn show(client: &Client) -> Result<UpdateKeys<'_>> {
    match keys(client)? {
        keys if keys.is_empty() => Err(KeyError::TooOld { device: client.device().to_owned() }.into()),
        keys => Ok(UpdateKeys { host: client.device(), keys }),
    }
}

/// Gives the device a new key, or the present one if it has an earlier one.
pub(crate) fn rotate(client: &Client) -> Result<Rotated<'_>> {
    let state = provision::state_dir()?;
    let secrets = provision::load(client.appliance(), &state)?;
    let UpdateKeys { keys: found, .. } = show(client)?;
    let has_present = found.contains(&text(secrets.update_key())?);
    let next = match secrets.next_update_key()? {
        Some(next) => Some(next),
        None if has_present => Some(secrets.make_next_update_key()?),
        None => None,
    };
    let wanted = next.as_ref().unwrap_or(secrets.update_key());
    let key = text(wanted)?;
    let former = provision::former_update_keys(client.appliance(), &state)?;
    let own = next.iter().chain([secrets.update_key()]).chain(&former);
    replace(client, &found, own, wanted.public()?)?;
    // The response may be lost although the device has the key; the next request shows it.
    if keys(client)? != [key.as_str()] {
        return Err(KeyError::NotTaken { device: client.device().to_owned() }.into());
    }
    if next.is_some() {
        secrets.adopt_next_update_key()?;
    }
    Ok(Rotated { host: client.device(), key })
}

/// The keys of the appliance whose build is pushed.
pub(crate) struct Signers {
    present: UpdateKey,
    /// The newest first.
    former: Vec<UpdateSigner>,
}

impl Signers {
    /// Those of `appliance`.
    pub(crate) fn of(appliance: &str) -> Result<Self> {
        let state = provision::state_dir()?;
        let present = provision::load(appliance, &state)?.update_key().public()?;
        Ok(Signers { present, former: provision::former_update_keys(appliance, &state)? })
    }

    /// Brings the present key to a device that has only an earlier one of `found`, and returns the signature of `bundle`
    /// for it. A device that tells no keys cannot replace them, and was made before any exchange.
    pub(crate) fn sign(&self, client: &Client, found: &[String], bundle: &Bundle) -> Result<Signed> {
        match self.former.last() {
            Some(oldest) if found.is_empty() => bundle.signed_with(oldest),
            Some(_) if !found.contains(&self.present.to_string()) => {
                replace(client, found, self.former.iter(), self.present)?;
                Ok(bundle.signed.clone())
            }
            _ => Ok(bundle.signed.clone()),
        }
    }
}

/// Makes `wanted` the only key of a device that has the keys `found`, with the signature of one of `own` that it has.
fn replace<'a>(
    client: &Client,
    found: &[String],
    own: impl IntoIterator<Item = &'a UpdateSigner>,
    wanted: UpdateKey,
) -> Result<()> {
    if found == [wanted.to_string()] {
        return Ok(());
    }
    for signer in own {
        if found.contains(&text(signer)?) {
            let keys = format!("{wanted}\n");
            let signature = Hex(signer.sign(&KeyChange::message(&keys))?);
            let body = serde_json::to_vec(&KeyChange { keys, signature }).map_err(Failure::other)?;
            return match client.call_with(&Endpoint::SetUpdateKeys, body) {
                Err(error) if !error.is_transient() => Err(RefusedUpdate(error).into()),
                _ => Ok(()),
            };
        }
    }
    let (device, appliance) = (client.device().to_owned(), client.appliance().to_owned());
    Err(KeyError::Unknown { device, appliance }.into())
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
