//! The tokens of a device: added, listed, exchanged and revoked.

use std::fmt;
use std::path::PathBuf;

use krazy_boot::api::credentials::{Role, Scope};
use krazy_boot::api::tokens::TokenInfo;
use serde::Serialize;

use super::{identity, rotation, stored_tokens};
use crate::device::Client;
use crate::device::credentials::{self, VARIABLE};
use crate::failure::{Exit, Explain, Result};
use crate::provision;
use crate::table::Table;

/// A token of a device.
#[derive(Serialize)]
pub(crate) struct DeviceToken<'a> {
    host: &'a str,
    #[serde(flatten)]
    pub(crate) entry: TokenInfo,
    /// The token itself, when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Every token of a device.
pub(crate) struct TokenList<'a>(pub(crate) Vec<DeviceToken<'a>>);

/// A token that is no longer valid.
#[derive(Serialize)]
pub(crate) struct Revoked<'a> {
    host: &'a str,
    name: &'a str,
}

/// A rotation that would exchange the wrong token.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} holds another token than the appliance's own, which this would exchange")]
struct ForeignToken;

impl Explain for ForeignToken {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("unset it; or add a token and revoke the one in it".to_owned())
    }
}

/// Makes a token and has the device of `client` accept it.
pub(crate) fn add<'a>(
    client: &'a Client,
    name: String,
    role: Role,
    scopes: Vec<Scope>,
) -> Result<DeviceToken<'a>> {
    let entry = TokenInfo { name, role, scopes, own: false };
    let token = stored_tokens::add(client, &entry)?.reveal();
    Ok(DeviceToken { host: client.device(), entry, token: Some(token) })
}

/// Stores the certificate by which others recognise the devices of `client`'s appliance. Returns its path; nothing if this
/// machine cannot make it.
pub(crate) fn certificate_for_others(client: &Client) -> Result<Option<PathBuf>> {
    provision::store_authority_certificate(client.appliance(), &provision::state_dir()?)
}

/// Lists the tokens of the device of `client`.
pub(crate) fn list(client: &Client) -> Result<TokenList<'_>> {
    let host = client.device();
    let entries = stored_tokens::list(client)?.into_iter();
    Ok(TokenList(entries.map(|entry| DeviceToken { host, entry, token: None }).collect()))
}

/// Fails if the token in use is not the appliance's own.
pub(crate) fn check_rotation() -> Result<()> {
    if credentials::given() { Err(ForeignToken.into()) } else { Ok(()) }
}

/// Returns the token that is sent to the device of `client`, as the device lists it.
pub(crate) fn show(client: &Client) -> Result<DeviceToken<'_>> {
    let own = rotation::own(client)?;
    let entry = own.ok_or_else(|| client.foreign("it does not know the token any more".to_owned()))?;
    Ok(DeviceToken { host: client.device(), entry, token: Some(client.token()?.reveal()) })
}

/// Gives the device a new token in place of the appliance's own. A device with a token of its own gets another one, and a
/// certificate with it.
pub(crate) fn rotate(client: &Client) -> Result<DeviceToken<'_>> {
    let secrets = provision::load(client.appliance(), &provision::state_dir()?)?;
    let entry = match client.id()? {
        Some(_) => identity::give(client, &secrets)?.entry,
        None => rotation::rotate_token(client, &secrets)?,
    };
    Ok(DeviceToken { host: client.device(), entry, token: None })
}

/// Has the device of `client` refuse the token `name` from now on.
pub(crate) fn revoke<'a>(client: &'a Client, name: &'a str) -> Result<Revoked<'a>> {
    stored_tokens::revoke(client, name)?;
    Ok(Revoked { host: client.device(), name })
}

impl DeviceToken<'_> {
    /// Returns the role's name.
    pub(crate) fn role(&self) -> &'static str {
        match self.entry.role {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }
}

/// The token itself, on a line, if it is new.
impl fmt::Display for DeviceToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.token.iter().try_for_each(|token| writeln!(f, "{token}"))
    }
}

impl fmt::Display for TokenList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["TOKEN", "ROLE", "SCOPES"]);
        for token in &self.0 {
            let scopes = if token.entry.scopes.contains(&Scope::WholeTree) { "whole-tree" } else { "-" };
            table.row([token.entry.name.clone(), token.role().to_owned(), scopes.to_owned()]);
        }
        table.fmt(f)
    }
}
