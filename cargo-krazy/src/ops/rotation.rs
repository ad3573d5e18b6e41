//! New certificates and tokens for running devices, without a lock-out: an old secret is removed after the new one has
//! worked, and an interrupted rotation can be repeated.
//!
//! Devices that were made from one image share its secrets. The first device gets new ones. Further devices still have
//! the earlier ones, which are kept and accepted, and get the same new ones. A device with secrets of its own gets others
//! of its own; see [`super::identity`].

use krazy_boot::api::Endpoint;
use krazy_boot::api::certificate::CertificateStatus;
use krazy_boot::api::credentials::{Role, Token};
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::tokens::TokenInfo;
use krazy_boot::digest::Sha256Hash;

use super::stored_tokens;
use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision::{self, Pair, Secrets};

/// A rotation that the device did not take to its end.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error("`{device}` knows none of the tokens of `{appliance}`")]
    NoKnownToken { device: String, appliance: String },
    #[error("`{device}` does not take its new token")]
    NewTokenUnknown { device: String },
    #[error("the new token of `{device}` is no admin's")]
    NotAdmin { device: String },
    #[error("`{device}` has too many tokens")]
    NoFreeName { device: String },
    #[error("the exchange is not finished: {error}")]
    Unfinished { device: String, state: &'static str, error: DeviceError },
}

impl Explain for RotationError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        match self {
            RotationError::NewTokenUnknown { .. } => {
                Some("the earlier one still works; run the command again".to_owned())
            }
            RotationError::Unfinished { device, state, .. } => {
                Some(format!("run the command again when `{device}` answers; {state}"))
            }
            RotationError::NoKnownToken { .. }
            | RotationError::NotAdmin { .. }
            | RotationError::NoFreeName { .. } => None,
        }
    }
}

/// Returns the certificates that the device presents.
pub(super) fn certificate(client: &Client) -> Result<CertificateStatus, DeviceError> {
    client.get(&Endpoint::Certificate)
}

/// Brings a new certificate to the device; the present one if the device has an earlier one. Returns its hash.
pub(super) fn rotate_certificate(client: &Client, secrets: &Secrets) -> Result<Sha256Hash> {
    let found = certificate(client)?.sha256;
    let next = match secrets.next_pair()? {
        Some(next) => Some(next),
        None if found == secrets.pair().sha256()? => Some(secrets.make_next_pair(client.appliance())?),
        None => None,
    };
    let pair = next.as_ref().map_or_else(|| secrets.pair(), Pair::clone);
    let (sha256, certificate_der) = (pair.sha256()?, pair.certificate()?);
    if found != sha256 {
        client.call_with(&Endpoint::PutCertificate, pair.pem().into_bytes())?;
        let trial = Client::on_trial(client.target(), client.appliance(), &certificate_der, client.token()?)?;
        let confirmed = trial.call(&Endpoint::ConfirmCertificate);
        // The response may be lost although the device confirmed; the next request shows it.
        if let Err(error) = confirmed
            && !error.is_transient()
        {
            return Err(error.into());
        }
    }
    let pinned = std::slice::from_ref(&certificate_der);
    let after = Client::with(client.target(), client.appliance(), pinned, client.token()?)?;
    certificate(&after).map_err(|error| {
        unfinished(error, client, "the earlier certificate and the new one are both accepted until then")
    })?;
    if next.is_some() {
        secrets.adopt_next_pair()?;
    }
    Ok(sha256)
}

/// Brings a new admin token to the device; the present one if the device knows only an earlier one. Returns its entry.
pub(super) fn rotate_token(client: &Client, secrets: &Secrets) -> Result<TokenInfo> {
    let device = || client.device().to_owned();
    let with = |token: &Token| -> Result<Client> {
        let certificates = provision::certificates(client.appliance(), secrets.state_dir())?;
        Client::with(client.target(), client.appliance(), &certificates, token)
    };
    let next = match secrets.next_token()? {
        Some(next) => Some(next),
        None if *client.token()? == *secrets.token() => Some(secrets.make_next_token()?),
        None => None,
    };
    let token = next.as_ref().unwrap_or(secrets.token()).clone();
    let renewed = with(&token)?;
    let mut old = None;
    for earlier in secrets.tokens()?.iter().filter(|earlier| **earlier != token) {
        if let Some(entry) = own(&with(earlier)?)? {
            old = Some((with(earlier)?, entry));
            break;
        }
    }
    let entry = match (own(&renewed)?, &old) {
        (Some(entry), _) => entry,
        (None, None) => {
            let appliance = client.appliance().to_owned();
            return Err(RotationError::NoKnownToken { device: device(), appliance }.into());
        }
        (None, Some((client, old))) => {
            let name = free_name(client, &old.name)?;
            let stored = provision::stored_token(&name, old.role, old.scopes.clone(), &token)?;
            let body = serde_json::to_vec(&stored).map_err(Failure::other)?;
            client
                .call_with(&Endpoint::PutToken { name }, body)
                .map_err(|error| unfinished(error, client, "the earlier token still works"))?;
            own(&renewed)?.ok_or_else(|| RotationError::NewTokenUnknown { device: device() })?
        }
    };
    if entry.role != Role::Admin {
        return Err(RotationError::NotAdmin { device: device() }.into());
    }
    if let Some((_, old)) = old {
        match renewed.call(&Endpoint::RemoveToken { name: old.name }) {
            Err(error) if error.kind() != Some(ProblemKind::NotFound) => {
                return Err(unfinished(error, client, "the earlier token still works, too").into());
            }
            _ => {}
        }
    }
    if next.is_some() {
        secrets.adopt_next_token()?;
    }
    Ok(entry)
}

/// Returns the token in use, as the device describes it; nothing if the device does not know it.
pub(super) fn own(client: &Client) -> Result<Option<TokenInfo>> {
    match stored_tokens::list(client) {
        Ok(entries) => {
            let own = entries.into_iter().find(|entry| entry.own);
            let unknown = || client.foreign("it does not tell which token is in use".to_owned());
            Ok(Some(own.ok_or_else(unknown)?))
        }
        Err(error) if error.is_unauthorized() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the first of `admin`, `admin-2`, `admin-3` and so on that the device does not have; so names alternate.
fn free_name(client: &Client, old: &str) -> Result<String> {
    let taken = stored_tokens::list(client)?;
    let (stem, number) = old.rsplit_once('-').unwrap_or((old, ""));
    let stem = if number.parse::<u32>().is_ok() { stem } else { old };
    let names = std::iter::once(stem.to_owned()).chain((2..).map(|number| format!("{stem}-{number}")));
    let free = names.take(taken.len() + 1).find(|name| taken.iter().all(|entry| entry.name != *name));
    Ok(free.ok_or_else(|| RotationError::NoFreeName { device: client.device().to_owned() })?)
}

fn unfinished(error: DeviceError, client: &Client, state: &'static str) -> RotationError {
    RotationError::Unfinished { device: client.device().to_owned(), state, error }
}
