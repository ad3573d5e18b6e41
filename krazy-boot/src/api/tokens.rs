//! Tokens as the API lists them.

use serde::{Deserialize, Serialize};

use super::credentials::{Role, Scope};

/// The tokens of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenList {
    /// The tokens in the order of their file.
    pub tokens: Vec<TokenInfo>,
}

/// A token without salt and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenInfo {
    /// The name, unique on its device.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The scopes beyond the role.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// True if the request was sent with this token.
    #[serde(default)]
    pub own: bool,
}
