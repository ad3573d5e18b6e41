//! A certificate and a token of its own for a device, in the place of those that it has: those of the image that it was made
//! from, or earlier ones of its own.
//!
//! ```text
//! add the token → certificate on trial → confirm it with the new token → revoke the token that was used until now
//! ```
//!
//! At each point the device is reached with what it had or with what it gets. What an interruption leaves on it is noted
//! ([`Pending`]), and revoked by the next push or the next exchange.

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::Role;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::tokens::TokenInfo;
use krazy_boot::digest::Sha256Hash;

use super::{rotation, stored_tokens};
use crate::device::{Client, DeviceError, credentials};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision::{self, Authority, DeviceId, DeviceIdentity, Pending, Secrets};

/// An exchange that the device did not take to its end.
#[derive(Debug, thiserror::Error)]
enum IdentityError {
    #[error("the authority of `{appliance}` does not recognise the certificate that it made")]
    Unrecognised { appliance: String },
    #[error("`{device}` has not confirmed its new certificate")]
    NotConfirmed { device: String },
    #[error("`{device}` does not take its new token")]
    NewTokenUnknown { device: String },
}

impl Explain for IdentityError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            IdentityError::Unrecognised { .. } => {
                "nothing was sent; this is a fault of cargo krazy, please report it"
            }
            IdentityError::NotConfirmed { .. } => "it is reached as before; run the command again",
            IdentityError::NewTokenUnknown { .. } => "run the command again",
        };
        Some(help.to_owned())
    }
}

/// The credentials that a device got.
pub(super) struct Given {
    pub(super) id: DeviceId,
    pub(super) sha256: Sha256Hash,
    /// Its new token, as the device lists it.
    pub(super) entry: TokenInfo,
}

/// Gives the device new ones. The client cannot be used after it.
pub(super) fn give(client: &Client, secrets: &Secrets) -> Result<Given> {
    settle(client, client.id()?, secrets)?;
    let authority = secrets.authority()?;
    let identity = authority.new_identity(client.appliance())?;
    let (id, sha256) = (identity.id, identity.pair.sha256()?);
    if !client.recognises(&identity.pair.certificate()?, id) {
        return Err(IdentityError::Unrecognised { appliance: client.appliance().to_owned() }.into());
    }
    // No other exchange of the same device takes this name.
    let added = format!("device-{:.8}", id.to_string());
    let earlier = earlier_tokens(client, secrets, &authority)?;
    secrets.begin_identity(id, Pending { added: added.clone(), earlier })?;
    if let Err(error) = bring(client, &identity, &added) {
        // The note is for the case that this does not reach the device either.
        if remove(client, added).is_ok() {
            secrets.finish_identity(id)?;
        }
        return Err(error);
    }
    confirm(client, &identity)?;
    let certificate = identity.pair.certificate()?;
    let pinned = std::slice::from_ref(&certificate);
    let after = Client::with(client.target(), client.appliance(), pinned, &identity.token)?;
    let device = || client.device().to_owned();
    let tokens = match stored_tokens::list(&after) {
        Err(DeviceError::Certificate { .. }) => {
            return Err(IdentityError::NotConfirmed { device: device() }.into());
        }
        Err(error) if error.is_unauthorized() => Vec::new(),
        tokens => tokens?,
    };
    let entry = tokens.into_iter().find(|entry| entry.own);
    let entry = entry.ok_or_else(|| IdentityError::NewTokenUnknown { device: device() })?;
    client.remember(id)?;
    settle(&after, Some(id), secrets)?;
    Ok(Given { id, sha256, entry })
}

/// The names of the appliance's own tokens on the device. One that somebody gave the user is not among them.
fn earlier_tokens(client: &Client, secrets: &Secrets, authority: &Authority) -> Result<Vec<String>> {
    let tokens = match client.id()? {
        Some(id) => vec![authority.token(id)],
        None if credentials::given() => Vec::new(),
        // A rotation that was interrupted leaves two of them.
        None => secrets.tokens()?,
    };
    let mut names = Vec::new();
    for token in tokens {
        names.extend(rotation::own(&client.with_token(&token)?)?.map(|entry| entry.name));
    }
    Ok(names)
}

/// Brings token and certificate to the device.
fn bring(client: &Client, identity: &DeviceIdentity, name: &str) -> Result<()> {
    let DeviceIdentity { id, pair, token } = identity;
    let stored = provision::stored_token(name, Role::Admin, Vec::new(), token)?;
    let body = serde_json::to_vec(&stored).map_err(Failure::other)?;
    client.call_with(&Endpoint::PutToken { name: name.to_owned() }, body)?;
    client.expect(*id)?;
    client.call_with(&Endpoint::PutCertificate, pair.pem().into_bytes())?;
    Ok(())
}

/// Confirms the certificate. After a failure the device may have it or not, so its token stays until that is known.
fn confirm(client: &Client, DeviceIdentity { pair, token, .. }: &DeviceIdentity) -> Result<()> {
    let trial = Client::on_trial(client.target(), client.appliance(), &pair.certificate()?, token)?;
    match trial.call(&Endpoint::ConfirmCertificate) {
        // The response may be lost although the device confirmed; the next request shows it.
        Err(error) if !error.is_transient() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Revokes what earlier exchanges left on the device, which has the id `id`. Returns true if there was anything.
pub(super) fn settle(client: &Client, id: Option<DeviceId>, secrets: &Secrets) -> Result<bool> {
    let all = secrets.pending()?;
    if all.is_empty() {
        return Ok(false);
    }
    let tokens = stored_tokens::list(client)?;
    let mut found = false;
    for (pending, Pending { added, earlier }) in all {
        let taken = id == Some(pending);
        let doomed = if taken { earlier } else { vec![added] };
        let is_here = |name: &String| tokens.iter().any(|entry| entry.name == *name && !entry.own);
        let doomed: Vec<_> = doomed.into_iter().filter(is_here).collect();
        if taken || !doomed.is_empty() {
            for name in doomed {
                remove(client, name)?;
                found = true;
            }
            secrets.finish_identity(pending)?;
        }
    }
    Ok(found)
}

fn remove(client: &Client, name: String) -> Result<(), DeviceError> {
    match client.call(&Endpoint::RemoveToken { name }) {
        Err(error) if error.kind() != Some(ProblemKind::NotFound) => Err(error),
        _ => Ok(()),
    }
}
