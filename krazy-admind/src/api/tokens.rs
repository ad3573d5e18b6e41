//! Tokens of a running device: listed, added, replaced and revoked. The device never sees a new token itself, only the
//! salted hash that it stores.

use std::sync::Arc;

use krazy_boot::api::credentials::HashedToken;
use krazy_boot::api::tokens::{TokenInfo, TokenList};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::{Admin, empty, json};
use crate::body::Body;
use crate::identity::auth::Identity;
use crate::problem::{Kind, Problem};

/// The longest stored token, with all its spaces.
const MAX_TOKEN: usize = 4096;

pub(super) async fn list(admin: &Admin, identity: &Identity) -> Result<Response, Problem> {
    let file = admin.auth.tokens().current();
    let tokens = file.tokens().iter().cloned();
    json(&TokenList {
        tokens: tokens
            .map(|HashedToken { name, role, scopes, .. }| {
                let own = name == identity.name;
                TokenInfo { name, role, scopes, own }
            })
            .collect(),
    })
}

/// Adds the token in the body, or puts it in the place of the one with its name.
///
/// Any admin may grant the scope whole-tree: an admin can write the whole disk anyway. The scope only limits mistakes,
/// so it must be requested explicitly.
pub(super) async fn put(admin: &Arc<Admin>, name: &str, body: Body) -> Result<Response, Problem> {
    let body = body.read(MAX_TOKEN).await?;
    let token: HashedToken = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Kind::BadRequest, format!("not a stored token: {error}")))?;
    if token.name != name {
        let text = format!("the token is called `{}`, the path names `{name}`", token.name);
        return Err(Problem::new(Kind::BadRequest, text));
    }
    let mut new = true;
    let tokens = admin.auth.tokens();
    tokens
        .edit(|tokens| {
            match tokens.iter_mut().find(|old| old.name == token.name) {
                Some(old) => {
                    new = false;
                    *old = token;
                }
                None => tokens.push(token),
            }
            Ok(())
        })
        .await?;
    admin.copy_credentials().await;
    Ok(empty(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }))
}

/// Revokes a token, but neither the last admin's nor the one of the request: it is revoked with its replacement, which
/// proves that the replacement works.
pub(super) async fn remove(admin: &Arc<Admin>, identity: &Identity, name: &str) -> Result<Response, Problem> {
    if identity.name == name {
        let text = format!("`{name}` is the token in use, and cannot revoke itself");
        return Err(Problem::new(Kind::NotNow, text));
    }
    let tokens = admin.auth.tokens();
    tokens
        .edit(|tokens| {
            let before = tokens.len();
            tokens.retain(|token| token.name != name);
            if tokens.len() == before {
                return Err(Problem::new(Kind::NotFound, format!("there is no token `{name}`")));
            }
            Ok(())
        })
        .await?;
    admin.copy_credentials().await;
    Ok(empty(StatusCode::NO_CONTENT))
}
