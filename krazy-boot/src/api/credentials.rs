//! The credentials of a device: the files below `/data/krazy` that the host provisions and admind reads.
//!
//! | file on `/data` | content | mode |
//! |---|---|---|
//! | [`CERTIFICATE`] | the TLS certificate, PEM; the client pins it | 0644 |
//! | [`PRIVATE_KEY`] | its key, PEM, PKCS #8 | 0600 |
//! | [`TOKENS`] | names, roles and hashes of the tokens, JSON ([`TokenFile`]) | 0600 |
//! | [`UPDATE_KEYS`] | public keys whose updates the device accepts ([`UpdateKey`]) | 0644 |
//!
//! # One round of SHA-256 instead of a password hash
//!
//! A [`Token`] always has 256 random bits; users cannot choose one. It cannot be guessed at any cost per guess, so a
//! slow hash would not protect a stolen file better. It would cost the device memory: argon2 at its recommended
//! settings needs 19 MiB per attempt, three times what admind may use, and every client that can connect could exhaust
//! it. The salt hides that two devices have the same token.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::digest::Hex;

/// The directory on `/data` of all files below, mode 0700: services have accounts of their own.
pub const DIRECTORY: &str = "krazy";
/// The TLS certificate, relative to `/data`.
pub const CERTIFICATE: &str = "krazy/tls/cert.pem";
/// The TLS private key, relative to `/data`.
pub const PRIVATE_KEY: &str = "krazy/tls/key.pem";
/// The tokens, relative to `/data`.
pub const TOKENS: &str = "krazy/tokens.json";
/// The public keys of updates, relative to `/data`.
pub const UPDATE_KEYS: &str = "krazy/update.pub";
/// The lowest version that the device accepts, relative to `/data`; few devices have one.
pub const VERSION_FLOOR: &str = "krazy/floor.json";

/// The directory that takes the place of `/data` for these files if `/data` is damaged. Init restores them to it from the
/// [copies outside `/data`](crate::disk::identity).
pub const RESTORED: &str = "/run/krazy/identity";

/// The length limit of a credential file in bytes. 256 tokens fit.
pub const MAX_FILE: usize = 64 * 1024;

/// The version of the token file's format. Readers reject a higher one.
pub const FORMAT: u32 = 1;

/// The longest name of a token.
pub const MAX_NAME: usize = 64;

const TOKEN_PREFIX: &str = "krz_";
const UPDATE_KEY_PREFIX: &str = "ed25519 ";

/// The reason why a text or file is not a credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not what [`Token`] prints.
    #[error("a token is `{TOKEN_PREFIX}` followed by 64 hexadecimal digits")]
    NotAToken,
    /// Not what [`UpdateKey`] prints.
    #[error("line {0} is not an update key: `{UPDATE_KEY_PREFIX}` followed by 64 hexadecimal digits")]
    NotAnUpdateKey(usize),
    /// There is no update key, so no update could be accepted.
    #[error("the file has no update key")]
    NoUpdateKey,
    /// Not JSON of the expected shape.
    #[error("the token file is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by a newer cargo-krazy.
    #[error("the token file has format {0}, this program reads up to {FORMAT}")]
    TooNew(u32),
    /// Longer than [`MAX_FILE`].
    #[error("{0} bytes are too many for a file of credentials, which has at most {MAX_FILE}")]
    TooLong(usize),
    /// Two tokens have the same name, so that one could not be revoked without the other.
    #[error("two tokens have the name `{0}`")]
    Duplicate(String),
    /// A name that is empty, too long, or would not survive a terminal or a URL.
    #[error(
        "`{0}` is not a token name: letters, digits, `-`, `_` and `.`, at most {MAX_NAME}, not dots alone"
    )]
    Name(String),
    /// No token has the admin role, so the device could not be managed any more.
    #[error("no token in the file has the role `admin`")]
    NoAdmin,
}

/// The rights of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads status, services and logs.
    Viewer,
    /// Also changes the device, and reads the files of `/data`.
    Admin,
}

/// A right that an admin token has only if it was requested when the token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Files of the whole tree, not only those below `/data` and the logs in `/tmp`.
    WholeTree,
}

/// A secret that proves a role: 256 random bits. `Debug` does not show them, and `==` takes constant
/// time.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Token {}

impl Token {
    /// A token from random bytes; they must come from the operating system's generator.
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Token(bytes)
    }

    /// The text a client sends: `krz_` and 64 lower-case hexadecimal digits.
    pub fn reveal(&self) -> String {
        format!("{TOKEN_PREFIX}{}", Hex(self.0))
    }
}

impl FromStr for Token {
    type Err = CredentialError;
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let digits = text.strip_prefix(TOKEN_PREFIX).ok_or(CredentialError::NotAToken)?;
        digits.parse().map(|Hex(bytes)| Token(bytes)).map_err(|_| CredentialError::NotAToken)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Checks that a token can have this name. It is a segment of URLs, where `.` and `..` mean something else.
pub fn check_name(name: &str) -> Result<(), CredentialError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let dots = name.chars().all(|c| c == '.');
    if dots || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(CredentialError::Name(name.to_owned()));
    }
    Ok(())
}

/// A token as a device stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HashedToken {
    /// The name of the token, unique in its file.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The rights beyond the role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    salt: Hex<16>,
    /// SHA-256 over the salt's 16 bytes and the token's 32.
    sha256: Hex<32>,
}

impl HashedToken {
    /// The form to store of `token`. The salt is random and stored with it.
    pub fn new(name: &str, role: Role, scopes: Vec<Scope>, token: &Token, salt: [u8; 16]) -> Self {
        HashedToken {
            name: name.to_owned(),
            role,
            scopes,
            salt: Hex(salt),
            sha256: Hex(salted_hash(&salt, token)),
        }
    }

    /// Returns true if this is the stored form of `token`, in constant time.
    pub fn matches(&self, token: &Token) -> bool {
        salted_hash(&self.salt.0, token).ct_eq(&self.sha256.0).into()
    }
}

fn salted_hash(salt: &[u8; 16], token: &Token) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(token.0).finalize().into()
}

/// The content of [`TOKENS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFile {
    format: u32,
    tokens: Vec<HashedToken>,
}

impl TokenFile {
    /// A file of these tokens. Fails if a name is duplicate or invalid, or if no token is an admin.
    pub fn new(tokens: Vec<HashedToken>) -> Result<Self, CredentialError> {
        for (n, token) in tokens.iter().enumerate() {
            check_name(&token.name)?;
            if tokens.iter().take(n).any(|other| other.name == token.name) {
                return Err(CredentialError::Duplicate(token.name.clone()));
            }
        }
        if !tokens.iter().any(|token| token.role == Role::Admin) {
            return Err(CredentialError::NoAdmin);
        }
        Ok(TokenFile { format: FORMAT, tokens })
    }

    /// Reads a token file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CredentialError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        if bytes.len() > MAX_FILE {
            return Err(CredentialError::TooLong(bytes.len()));
        }
        let header: Header = serde_json::from_slice(bytes)?;
        if header.format > FORMAT {
            return Err(CredentialError::TooNew(header.format));
        }
        let file: TokenFile = serde_json::from_slice(bytes)?;
        TokenFile::new(file.tokens)
    }

    /// The bytes to store: indented JSON with a final line end, the same for equal files.
    pub fn to_json(&self) -> Result<Vec<u8>, CredentialError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The stored tokens in order.
    pub fn tokens(&self) -> &[HashedToken] {
        &self.tokens
    }

    /// Returns the entry of `token`. Every entry is compared, so that the time does not reveal which one matches.
    pub fn find(&self, token: &Token) -> Option<&HashedToken> {
        let mut found = None;
        for entry in &self.tokens {
            if entry.matches(token) {
                found = Some(entry);
            }
        }
        found
    }
}

/// An Ed25519 public key (RFC 8032) that signs updates. Prints as one line, `ed25519 ` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateKey(pub [u8; 32]);

impl UpdateKey {
    /// Reads [`UPDATE_KEYS`]: one key per line, so that a new key can be trusted before the old one is removed.
    /// Empty lines and lines beginning with `#` are skipped. Fails if there is no key.
    pub fn parse_file(text: &str) -> Result<Vec<UpdateKey>, CredentialError> {
        if text.len() > MAX_FILE {
            return Err(CredentialError::TooLong(text.len()));
        }
        let mut keys = Vec::new();
        for (n, line) in text.lines().map(str::trim).enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                let key = line.strip_prefix(UPDATE_KEY_PREFIX).and_then(|digits| digits.parse().ok());
                let Hex(key) = key.ok_or(CredentialError::NotAnUpdateKey(n + 1))?;
                keys.push(UpdateKey(key));
            }
        }
        if keys.is_empty() { Err(CredentialError::NoUpdateKey) } else { Ok(keys) }
    }
}

impl fmt::Display for UpdateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UPDATE_KEY_PREFIX}{}", Hex(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admin(byte: u8) -> (Token, HashedToken) {
        let token = Token::from_random([byte; 32]);
        let entry = HashedToken::new("admin", Role::Admin, Vec::new(), &token, [7; 16]);
        (token, entry)
    }

    #[test]
    fn stored_form_has_golden_bytes() {
        let (_, entry) = admin(0x5a);
        let json = String::from_utf8(TokenFile::new(vec![entry]).unwrap().to_json().unwrap()).unwrap();
        // The hash is what `printf '\x07…×16\x5a…×32' | sha256sum` prints.
        assert_eq!(
            json,
            "{\n  \"format\": 1,\n  \"tokens\": [\n    {\n      \"name\": \"admin\",\n      \"role\": \"admin\",\n      \
             \"salt\": \"07070707070707070707070707070707\",\n      \
             \"sha256\": \"6f43400ac9152b2cc3279939f01f0964a98a5ef7046019c4956e870678416ace\"\n    }\n  ]\n}\n"
        );
        assert_eq!(TokenFile::from_json(json.as_bytes()).unwrap().to_json().unwrap(), json.as_bytes());
    }

    #[test]
    fn only_the_right_token_is_found() {
        let (token, entry) = admin(1);
        let other = Token::from_random([2; 32]);
        let viewer = HashedToken::new("bob", Role::Viewer, Vec::new(), &other, [9; 16]);
        let file = TokenFile::new(vec![entry, viewer]).unwrap();
        assert_eq!(file.find(&token).map(|entry| entry.name.as_str()), Some("admin"));
        assert_eq!(file.find(&other).map(|entry| entry.role), Some(Role::Viewer));
        assert_eq!(file.find(&Token::from_random([3; 32])), None);
    }

    #[test]
    fn tokens_have_one_spelling() {
        let (token, _) = admin(0xab);
        assert_eq!(token.reveal().len(), 68);
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert_eq!(format!("{token:?}"), "Token(…)");
        for wrong in ["", "krz_", "password", &token.reveal()[4..], &token.reveal()[..67]] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert!(token.reveal().replace('a', "A").parse::<Token>().is_err());
    }

    #[test]
    fn unusable_file_is_rejected_with_its_reason() {
        let (_, entry) = admin(1);
        let message = |tokens| TokenFile::new(tokens).unwrap_err().to_string();
        assert_eq!(message(vec![entry.clone(), entry.clone()]), "two tokens have the name `admin`");
        assert_eq!(message(Vec::new()), "no token in the file has the role `admin`");
        for name in ["", ".", "..", "a/b", &"a".repeat(MAX_NAME + 1)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        let odd = HashedToken { name: "a b".into(), ..entry };
        assert_eq!(
            message(vec![odd]),
            "`a b` is not a token name: letters, digits, `-`, `_` and `.`, at most 64, not dots alone"
        );
        let newer = TokenFile::from_json(br#"{"format": 2}"#).unwrap_err();
        assert_eq!(newer.to_string(), "the token file has format 2, this program reads up to 1");
        let long = TokenFile::from_json(&vec![b' '; MAX_FILE + 1]).unwrap_err();
        assert!(matches!(long, CredentialError::TooLong(_)));
        let short = br#"{"format":1,"tokens":[{"name":"a","role":"admin","salt":"00","sha256":"00"}]}"#;
        let error = TokenFile::from_json(short).unwrap_err().to_string();
        assert!(error.starts_with("the token file is damaged: expected 32 hexadecimal digits"), "{error}");
    }

    #[test]
    fn update_keys_are_read_line_by_line() {
        let (old, new) = (UpdateKey([1; 32]), UpdateKey([0xfe; 32]));
        let text = format!("# until 2027\n{old}\n\n{new}\n");
        assert_eq!(UpdateKey::parse_file(&text).unwrap(), [old, new]);
        assert_eq!(UpdateKey::parse_file("\n").unwrap_err().to_string(), "the file has no update key");
        assert_eq!(
            UpdateKey::parse_file(&format!("{old}\nrsa 12")).unwrap_err().to_string(),
            "line 2 is not an update key: `ed25519 ` followed by 64 hexadecimal digits"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let _refused = TokenFile::from_json(&bytes);
            let _refused = text.parse::<Token>();
            let _refused = UpdateKey::parse_file(&text);
            let _refused = UpdateKey::parse_file(&format!("ed25519 {text}"));
        }
    }
}
