//! New certificates and tokens for running devices, without a lock-out: an old secret is removed after the new one has
//! worked, and an interrupted rotation can be repeated.
//!
//! All devices of an appliance share its secrets. The first device gets new ones. Further devices still have the earlier
//! ones, which are kept and accepted, and get the same new ones.

use krazy_boot::api::Endpoint;
use krazy_boot::api::certificate::CertificateStatus;
use krazy_boot::api::credentials::{Role, Token};
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::tokens::TokenInfo;
use krazy_boot::digest::Sha256Hash;

use super::tokens;
use super::{Client, DeviceError};
use crate::failure::{Exit, Failure};
use crate::provision::{self, Pair, Secrets};

/// Returns the certificates that the device presents.
pub(crate) fn certificate(client: &Client) -> Result<CertificateStatus, DeviceError> {
    client.get(&Endpoint::Certificate)
}

/// Brings a new certificate to the device; the present one if the device has an earlier one. Returns its hash.
pub(crate) fn rotate_certificate(client: &Client, secrets: &Secrets) -> anyhow::Result<Sha256Hash> {
    let found = certificate(client).map_err(DeviceError::into_failure)?.sha256;
    let next = match secrets.next_pair()? {
        Some(next) => Some(next),
        None if found == secrets.pair().sha256()? => Some(secrets.make_next_pair(client.appliance())?),
        None => None,
    };
    let pair = next.as_ref().map_or_else(|| secrets.pair(), Pair::clone);
    let (sha256, certificate_der) = (pair.sha256()?, pair.certificate()?);
    if found != sha256 {
        client
            .call_with(&Endpoint::PutCertificate, pair.pem().into_bytes())
            .map_err(DeviceError::into_failure)?;
        let trial = Client::on_trial(client.target(), client.appliance(), &certificate_der, client.token())?;
        let confirmed = trial.call(&Endpoint::ConfirmCertificate);
        // The response may be lost although the device confirmed; the next request shows it.
        if let Err(error) = confirmed
            && !error.is_transient()
        {
            return Err(error.into_failure().into());
        }
    }
    let pinned = std::slice::from_ref(&certificate_der);
    let after = Client::with(client.target(), client.appliance(), pinned, client.token())?;
    certificate(&after).map_err(|error| {
        unfinished(error, client, "the earlier certificate and the new one are both accepted until then")
    })?;
    if next.is_some() {
        secrets.adopt_next_pair()?;
    }
    Ok(sha256)
}

/// Brings a new admin token to the device; the present one if the device knows only an earlier one. Returns its entry.
pub(crate) fn rotate_token(client: &Client, secrets: &Secrets) -> anyhow::Result<TokenInfo> {
    let with = |token: &Token| {
        let certificates = provision::certificates(client.appliance(), secrets.state_dir())?;
        Client::with(client.target(), client.appliance(), &certificates, token)
    };
    let next = match secrets.next_token()? {
        Some(next) => Some(next),
        None if *client.token() == *secrets.token() => Some(secrets.make_next_token()?),
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
            let text = format!("`{}` knows none of the tokens of `{}`", client.device(), client.appliance());
            return Err(Failure::new(Exit::Device, text).into());
        }
        (None, Some((client, old))) => {
            let name = free_name(client, &old.name)?;
            let stored = provision::stored_token(&name, old.role, old.scopes.clone(), &token)?;
            client
                .call_with(&Endpoint::PutToken { name }, serde_json::to_vec(&stored)?)
                .map_err(|error| unfinished(error, client, "the earlier token still works"))?;
            own(&renewed)?.ok_or_else(|| {
                Failure::new(Exit::Device, format!("`{}` does not take its new token", client.device()))
                    .help("the earlier one still works; run the command again")
            })?
        }
    };
    if entry.role != Role::Admin {
        let text = format!("the new token of `{}` is no admin's", client.device());
        return Err(Failure::new(Exit::Device, text).into());
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

/// The token in use, as the device tells about it; nothing if the device does not know it.
fn own(client: &Client) -> Result<Option<TokenInfo>, Failure> {
    match tokens::list(client) {
        Ok(entries) => entries.into_iter().find(|entry| entry.own).map(Some).ok_or_else(|| {
            client.foreign("it does not tell which token is in use".to_owned()).into_failure()
        }),
        Err(error) if error.is_unauthorized() => Ok(None),
        Err(error) => Err(error.into_failure()),
    }
}

/// The first of `admin`, `admin-2`, `admin-3` and so on that the device does not have; so names alternate.
fn free_name(client: &Client, old: &str) -> Result<String, Failure> {
    let taken = tokens::list(client).map_err(DeviceError::into_failure)?;
    let (stem, number) = old.rsplit_once('-').unwrap_or((old, ""));
    let stem = if number.parse::<u32>().is_ok() { stem } else { old };
    let names = std::iter::once(stem.to_owned()).chain((2..).map(|number| format!("{stem}-{number}")));
    let free = names.take(taken.len() + 1).find(|name| taken.iter().all(|entry| entry.name != *name));
    free.ok_or_else(|| Failure::new(Exit::Device, format!("`{}` has too many tokens", client.device())))
}

fn unfinished(error: DeviceError, client: &Client, state: &str) -> Failure {
    Failure::new(Exit::Device, format!("the exchange is not finished: {error}"))
        .help(format!("run the command again when `{}` answers; {state}", client.device()))
}
