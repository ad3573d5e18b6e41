//! A certificate and a token of its own for a device, in the place of those that it has: those of the image that it was made
//! from, or earlier ones of its own.
//!
//! ```text
//! add the token → certificate on trial → confirm it with the new token → revoke the token that was used until now
//! ```
//!
//! At each point the device is reached with what it had or with what it gets. A token that an interruption leaves behind is
//! revoked by the next push.

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::Role;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::tokens::TokenInfo;
use krazy_boot::digest::Sha256Hash;

use super::{rotation, stored_tokens};
use crate::device::{Client, DeviceError, credentials};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision::{self, DeviceId, DeviceIdentity, FIRST_TOKEN, Secrets};

/// A device that does not accept its new token.
#[derive(Debug, thiserror::Error)]
#[error("`{device}` does not take its new token")]
struct NewTokenUnknown {
    device: String,
}

impl Explain for NewTokenUnknown {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some("the earlier one still works; run the command again".to_owned())
    }
}

/// What a device got.
pub(super) struct Given {
    pub(super) id: DeviceId,
    pub(super) sha256: Sha256Hash,
    /// Its new token, as the device lists it.
    pub(super) entry: TokenInfo,
}

/// Gives the device new ones. The client cannot be used after it.
pub(super) fn give(client: &Client, secrets: &Secrets) -> Result<Given> {
    let DeviceIdentity { id, pair, token } = secrets.authority(client.appliance())?.new_identity()?;
    let before = rotation::own(client)?;
    let name = rotation::free_name(client, before.as_ref().map_or(FIRST_TOKEN, |entry| &entry.name))?;
    let stored = provision::stored_token(&name, Role::Admin, Vec::new(), &token)?;
    let body = serde_json::to_vec(&stored).map_err(Failure::other)?;
    client.call_with(&Endpoint::PutToken { name }, body)?;

    let (certificate, sha256) = (pair.certificate()?, pair.sha256()?);
    client.call_with(&Endpoint::PutCertificate, pair.pem().into_bytes())?;
    let trial = Client::on_trial(client.target(), client.appliance(), &certificate, &token)?;
    // The response may be lost although the device confirmed; the next request shows it.
    match trial.call(&Endpoint::ConfirmCertificate) {
        Err(error) if !error.is_transient() => return Err(error.into()),
        _ => {}
    }
    let pinned = std::slice::from_ref(&certificate);
    let after = Client::with(client.target(), client.appliance(), pinned, &token)?;
    let unknown = || NewTokenUnknown { device: client.device().to_owned() };
    let entry = rotation::own(&after)?.ok_or_else(unknown)?;
    client.remember(id)?;
    // A token that somebody else gave the user stays theirs.
    if let Some(before) = before.filter(|_| !credentials::given()) {
        remove(&after, before.name)?;
    }
    Ok(Given { id, sha256, entry })
}

/// Revokes the shared tokens that an interrupted [`give`] left on a device with a token of its own. Returns true if there
/// were any.
pub(super) fn finish(client: &Client, secrets: &Secrets) -> Result<bool> {
    let others = stored_tokens::list(client)?;
    let may_be_ours = |entry: &&TokenInfo| !entry.own && is_ours(&entry.name);
    if credentials::given() || !others.iter().any(|entry| may_be_ours(&entry)) {
        return Ok(false);
    }
    let mut found = false;
    for token in secrets.tokens()? {
        if let Some(entry) = rotation::own(&client.with_token(&token)?)? {
            remove(client, entry.name)?;
            found = true;
        }
    }
    Ok(found)
}

/// Returns true for the names that [`rotation::free_name`] gives to an appliance's own token.
fn is_ours(name: &str) -> bool {
    let rest = name.strip_prefix(FIRST_TOKEN).map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    rest.is_some_and(|number| number.is_empty() || number.parse::<u32>().is_ok())
}

fn remove(client: &Client, name: String) -> Result<(), DeviceError> {
    match client.call(&Endpoint::RemoveToken { name }) {
        Err(error) if error.kind() != Some(ProblemKind::NotFound) => Err(error),
        _ => Ok(()),
    }
}
