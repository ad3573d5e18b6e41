//! The tokens of a device.
//!
//! A new token is made here, and the device gets only the salted hash that it stores. So this program prints the token
//! once, and nobody can read it again.

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::Token;
use krazy_boot::api::problem::ProblemKind;
use krazy_boot::api::tokens::{TokenInfo, TokenList};

use crate::device::{Client, DeviceError};
use crate::failure::{Exit, Explain, Failure, Result};
use crate::provision;

/// A token that is not added or not revoked.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("`{device}` has a token `{name}` already")]
    Exists { device: String, name: String },
    #[error("{error}")]
    InUse { device: String, name: String, error: DeviceError },
    #[error("{error}")]
    Unknown { device: String, error: DeviceError },
}

impl Explain for TokenError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            TokenError::Exists { device, name } => {
                format!("choose another name, or end it first: `cargo krazy token revoke {name} {device}`")
            }
            TokenError::InUse { device, name, .. } => format!(
                "nobody should lock themselves out: add another one with `cargo krazy token add NAME --role admin \
                 {device}`, and revoke `{name}` with that in KRAZY_TOKEN",
            ),
            TokenError::Unknown { device, .. } => format!("`cargo krazy token list {device}` shows them"),
        })
    }
}

/// Returns every token of the device.
pub(super) fn list(client: &Client) -> Result<Vec<TokenInfo>, DeviceError> {
    client.get(&Endpoint::Tokens).map(|TokenList { tokens }| tokens)
}

/// Makes a token as in `entry`, and has the device store its hash. Fails if the device has a token of this name, which
/// it would replace: its owner would be locked out.
pub(super) fn add(client: &Client, entry: &TokenInfo) -> Result<Token> {
    let name = &entry.name;
    if list(client)?.iter().any(|other| other.name == *name) {
        return Err(TokenError::Exists { device: client.device().to_owned(), name: name.clone() }.into());
    }
    let (token, stored) = provision::new_token(name, entry.role, entry.scopes.clone())?;
    let body = serde_json::to_vec(&stored).map_err(Failure::other)?;
    client.call_with(&Endpoint::PutToken { name: name.clone() }, body)?;
    Ok(token)
}

/// Revokes the token `name`.
pub(super) fn revoke(client: &Client, name: &str) -> Result<()> {
    let (device, name) = (client.device().to_owned(), name.to_owned());
    client.call(&Endpoint::RemoveToken { name: name.clone() }).map_err(|error| match error.kind() {
        Some(ProblemKind::NotNow) => TokenError::InUse { device, name, error }.into(),
        Some(ProblemKind::NotFound) => TokenError::Unknown { device, error }.into(),
        _ => Failure::from(error),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use krazy_boot::api::credentials::{HashedToken, Role, Scope};

    use super::*;
    use crate::device::testing::{Device, answer};

    const TOKENS: &str = r#"{"tokens":[{"name":"admin","role":"admin","scopes":[]},
        {"name":"root","role":"admin","scopes":["whole-tree"]}]}"#;

    fn entry(name: &str, role: Role, scopes: Vec<Scope>) -> TokenInfo {
        TokenInfo { name: name.to_owned(), role, scopes, own: false }
    }

    fn told(failure: Failure) -> (String, String) {
        assert_eq!(failure.exit(), Exit::Device);
        (failure.to_string(), failure.next_step().unwrap_or_default().to_owned())
    }

    /// A device that answers everything but the list with a problem.
    fn refusing(status: &'static str, kind: &'static str) -> Device {
        Device::start(Box::new(move |head, _| {
            if head.starts_with("GET") {
                return answer("200 OK", TOKENS);
            }
            let number = &status[..3];
            let body = format!(r#"{{"type":"urn:krazy:{kind}","status":{number},"detail":"because"}}"#);
            answer(status, &body)
        }))
    }

    #[test]
    fn device_gets_only_the_hash_of_a_new_token() {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        let device = Device::start(Box::new(move |head, body| {
            if head.starts_with("GET /api/v1/tokens ") {
                return answer("200 OK", TOKENS);
            }
            assert!(head.starts_with("PUT /api/v1/tokens/ops "), "{head}");
            seen.lock().unwrap().push(body.to_vec());
            answer("201 Created", "")
        }));
        let new = entry("ops", Role::Viewer, Vec::new());
        let tokens = [(); 2].map(|()| add(&device.client(), &new).unwrap());
        assert_ne!(tokens[0], tokens[1]);
        for (token, body) in tokens.iter().zip(bodies.lock().unwrap().iter()) {
            let stored: HashedToken = serde_json::from_slice(body).unwrap();
            assert_eq!((stored.name.as_str(), stored.role), ("ops", Role::Viewer));
            assert!(stored.matches(token));
            assert!(!String::from_utf8_lossy(body).contains(&token.reveal()[4..]));
        }
    }

    #[test]
    fn existing_token_is_not_replaced() {
        let device = refusing("500 Internal Server Error", "internal");
        assert_eq!(list(&device.client()).unwrap()[1], entry("root", Role::Admin, vec![Scope::WholeTree]));
        let (text, help) = told(add(&device.client(), &entry("root", Role::Admin, Vec::new())).unwrap_err());
        assert_eq!(text, "`test` has a token `root` already");
        assert!(help.contains("cargo krazy token revoke root test"), "{help}");
        assert!(device.heads.lock().unwrap().iter().all(|head| head.starts_with("GET")));
    }

    #[test]
    fn rejected_change_has_a_next_step() {
        let device = refusing("403 Forbidden", "forbidden");
        let viewer = entry("ops", Role::Viewer, Vec::new());
        let (text, help) = told(add(&device.client(), &viewer).unwrap_err());
        assert_eq!(text, "`test` refused: because");
        assert!(help.contains("another role"), "{help}");
        let device = refusing("409 Conflict", "not-now");
        let (_, help) = told(revoke(&device.client(), "admin").unwrap_err());
        assert!(help.contains("`cargo krazy token add NAME --role admin test`"), "{help}");
        let device = refusing("404 Not Found", "not-found");
        let (_, help) = told(revoke(&device.client(), "nobody").unwrap_err());
        assert_eq!(help, "`cargo krazy token list test` shows them");
        assert!(device.heads.lock().unwrap()[0].starts_with("DELETE /api/v1/tokens/nobody "));
    }
}
