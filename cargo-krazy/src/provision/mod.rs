//! The secrets of an appliance: made once, at its first image, and kept in the user's state directory.
//!
//! They live outside the checkout so that another checkout can push, and nothing secret is ever committed.
//! The files of one appliance, in `STATE/NAME/secrets`:
//!
//! | file | content |
//! |---|---|
//! | `id` | [`ApplianceId`], 32 hexadecimal digits |
//! | `cert.pem`, `key.pem` | the device's TLS certificate and key |
//! | `token` | the admin token in clear, for the client |
//! | `tokens.json` | the same hashed, for the device; stored because its salt is random |
//! | `update.key` | the Ed25519 key that signs updates, PKCS #8 PEM |
//! | `authority.pem` | what others need to recognise devices; see `authority` |
//! | `former-update-keys.pem` | after a rotation, with the first key, from which devices' credentials are derived |
//! | `pending-identities.toml` | see `pending` |
//!
//! While certificate, token or update key are exchanged on running devices, the next ones stand beside them; see `exchange`.
//!
//! A set appears at once: it is written and flushed in a temporary directory, which is then renamed. Renaming
//! onto a directory that has files fails (POSIX `rename`), so of two runs at once one wins and the other takes
//! the winner's set.

mod authority;
mod certificate;
mod error;
mod exchange;
mod identity;
mod pending;
mod rotation;
mod store;
mod update_key;

pub(crate) use authority::{Authority, DeviceId, DeviceIdentity, DeviceTokens, ID_DOMAIN};
pub(crate) use identity::ApplianceId;
pub(crate) use pending::Pending;
pub(crate) use rotation::{Pair, former_update_keys, stored_token};
pub(crate) use update_key::UpdateSigner;

use std::path::{Path, PathBuf};

use anyhow::Context;
use krazy_boot::api::credentials::{self, HashedToken, Role, Scope, Token, TokenFile};
use krazy_boot::disk::layout::DiskSignature;
use rustls_pki_types::CertificateDer;

use crate::failure::{Failure, Result};
use crate::user_directories::UserDirectory;
use certificate::TlsIdentity;
use error::SecretsError;

/// The name of the token made at the first image.
pub(crate) const FIRST_TOKEN: &str = "admin";

/// The secrets of this user's appliances, which must not be in a checkout: one directory per appliance.
const STATE: UserDirectory = UserDirectory {
    variable: "KRAZY_STATE_DIR",
    xdg: "XDG_STATE_HOME",
    below_home: ".local/state",
    holds: "the appliance's secrets",
};

/// The directory that holds one directory per appliance: `$KRAZY_STATE_DIR`, else `krazy` in `$XDG_STATE_HOME`, else
/// `~/.local/state/krazy`. Nothing is created.
pub(crate) fn state_dir() -> Result<PathBuf> {
    Ok(STATE.find()?)
}

/// A file for the device's `/data`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its path, relative to `/data`.
    pub(crate) path: &'static str,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
    /// Its permission bits. The owner is root.
    pub(crate) mode: u32,
}

/// Everything secret about one appliance. Has no `Debug`, so that it cannot end up in a message.
pub(crate) struct Secrets {
    id: ApplianceId,
    tls: TlsIdentity,
    token: Token,
    tokens: TokenFile,
    update_key: UpdateSigner,
    directory: PathBuf,
}

/// The secrets of the appliance `name`; makes them if there are none yet. `state_dir` is [`state_dir`]'s.
pub(crate) fn provision(name: &str, state_dir: &Path) -> Result<Secrets> {
    check_name(name)?;
    let directory = store::directory(state_dir, name);
    if let Some(files) = read(&directory)? {
        return Secrets::from_files(&files, directory);
    }
    let made = Secrets::generate(name, directory.clone())?;
    store::write(&directory, &made.to_files()?)?;
    // Another run may have been faster: what counts is what is stored.
    let secrets = load(name, state_dir)?;
    secrets.authority()?;
    Ok(secrets)
}

/// The secrets of the appliance `name`, which must have been made by an earlier image.
pub(crate) fn load(name: &str, state_dir: &Path) -> Result<Secrets> {
    check_name(name)?;
    let directory = store::directory(state_dir, name);
    match read(&directory)? {
        Some(files) => Secrets::from_files(&files, directory),
        None => Err(SecretsError::NoCredentials { appliance: name.to_owned(), directory }.into()),
    }
}

/// Reads the set in `directory`, after finishing an exchange that was interrupted.
fn read(directory: &Path) -> Result<Option<store::Files>> {
    if !store::exists(directory)? {
        return Ok(None);
    }
    exchange::recover(directory).with_context(|| store::reading(directory))?;
    Ok(Some(store::read(directory)?))
}

/// The certificates that devices of the appliance `name` may have, in DER: the present one, and while it is exchanged
/// the next and earlier ones; none if only the authority's certificate is there. Of its secrets no other file need be
/// there: who has a token of their own needs no more.
pub(crate) fn certificates(name: &str, state_dir: &Path) -> Result<Vec<CertificateDer<'static>>> {
    check_name(name)?;
    let directory = store::directory(state_dir, name);
    let path = directory.join(store::CERTIFICATE);
    match store::read_certificate(&path)? {
        Some(pem) => {
            let using = || format!("failed to use {}", path.display());
            let mut all = vec![certificate::parse(&pem).with_context(using)?];
            all.extend(rotation::other_certificates(&directory)?);
            Ok(all)
        }
        None if directory.join(authority::CERTIFICATE).exists() => Ok(Vec::new()),
        None => Err(SecretsError::NoCertificate { appliance: name.to_owned(), path }.into()),
    }
}

/// The certificate of the authority of the appliance `name`, DER; nothing if it has none.
pub(crate) fn authority_certificate(name: &str, state_dir: &Path) -> Result<Option<CertificateDer<'static>>> {
    check_name(name)?;
    Ok(authority::certificate(&store::directory(state_dir, name))?)
}

/// The derivation of tokens for the appliance's devices; nothing if it has no authority.
pub(crate) fn device_tokens(name: &str, state_dir: &Path) -> Result<Option<DeviceTokens>> {
    check_name(name)?;
    let authority = Authority::find(&store::directory(state_dir, name))?;
    Ok(authority.map(Authority::into_tokens))
}

/// Stores the authority's certificate of the appliance `name` for others, who need no other file. Returns its path;
/// nothing if the authority is not on this machine.
pub(crate) fn store_authority_certificate(name: &str, state_dir: &Path) -> Result<Option<PathBuf>> {
    check_name(name)?;
    let directory = store::directory(state_dir, name);
    let authority = Authority::find(&directory)?;
    Ok(authority.map(|authority| authority.store_certificate(&directory)).transpose()?)
}

/// Makes a token, and the hashed form that a device stores.
pub(crate) fn new_token(name: &str, role: Role, scopes: Vec<Scope>) -> anyhow::Result<(Token, HashedToken)> {
    let token = Token::from_random(random()?);
    let entry = HashedToken::new(name, role, scopes, &token, random()?);
    Ok((token, entry))
}

/// Checks a name that becomes a directory and a DNS name.
fn check_name(name: &str) -> Result<(), SecretsError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain && (1..=63).contains(&name.len()) {
        return Ok(());
    }
    Err(SecretsError::Name(name.to_owned()))
}

impl Secrets {
    fn generate(name: &str, directory: PathBuf) -> anyhow::Result<Self> {
        let (token, entry) = new_token(FIRST_TOKEN, Role::Admin, Vec::new())?;
        Ok(Secrets {
            id: ApplianceId(random()?),
            tls: TlsIdentity::generate(name)?,
            token,
            tokens: TokenFile::new(vec![entry])?,
            update_key: UpdateSigner::generate()?,
            directory,
        })
    }

    fn from_files(files: &store::Files, directory: PathBuf) -> Result<Self> {
        let parse = || -> anyhow::Result<Secrets> {
            let tls = TlsIdentity {
                certificate: files.text(store::CERTIFICATE)?.to_owned(),
                private_key: files.text(store::PRIVATE_KEY)?.to_owned(),
            };
            tls.check()?;
            let token: Token = files.text(store::TOKEN)?.trim_end().parse()?;
            let tokens = TokenFile::from_json(files.text(store::TOKENS)?.as_bytes())?;
            if tokens.find(&token).is_none_or(|entry| entry.role != Role::Admin) {
                anyhow::bail!("`{}` does not know the admin token in `{}`", store::TOKENS, store::TOKEN);
            }
            let update_key = UpdateSigner::from_pem(files.text(store::UPDATE_KEY)?)?;
            let id = files.text(store::ID)?.trim_end().parse()?;
            Ok(Secrets { id, tls, token, tokens, update_key, directory: directory.clone() })
        };
        parse().map_err(|error| {
            SecretsError::Damaged { directory: directory.clone(), why: format!("{error:#}") }.into()
        })
    }

    fn to_files(&self) -> anyhow::Result<store::Files> {
        Ok(store::Files::new([
            (store::ID, format!("{}\n", self.id)),
            (store::CERTIFICATE, self.tls.certificate.clone()),
            (store::PRIVATE_KEY, self.tls.private_key.clone()),
            (store::TOKEN, format!("{}\n", self.token.reveal())),
            (store::TOKENS, String::from_utf8(self.tokens.to_json()?)?),
            (store::UPDATE_KEY, self.update_key.to_pem()),
        ]))
    }

    /// The appliance's identity, from which disk signature and UUIDs derive.
    pub(crate) fn id(&self) -> ApplianceId {
        self.id
    }

    /// Returns these secrets for one disk of the appliance `name`: with random identifiers that are stored nowhere, and
    /// with a certificate and a token that no other device has.
    pub(crate) fn for_one_disk(self, name: &str) -> Result<Self> {
        let DeviceIdentity { pair, token, .. } = self.authority()?.new_identity(name)?;
        let entry = stored_token(FIRST_TOKEN, Role::Admin, Vec::new(), &token)?;
        let tokens = TokenFile::new(vec![entry]).map_err(Failure::other)?;
        Ok(Secrets { id: ApplianceId(random()?), tls: pair.into_identity(), token, tokens, ..self })
    }

    /// The MBR disk signature of its images.
    pub(crate) fn disk_signature(&self) -> DiskSignature {
        self.id.disk_signature()
    }

    /// The UUID of the file system that `label` names, in the order of its printed bytes.
    pub(crate) fn uuid(&self, label: &str) -> [u8; 16] {
        self.id.uuid(label)
    }

    /// The admin token, as the client sends it.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// The key whose updates its devices take.
    pub(crate) fn update_key(&self) -> &UpdateSigner {
        &self.update_key
    }

    /// The same, if nothing else is needed.
    pub(crate) fn into_update_key(self) -> UpdateSigner {
        self.update_key
    }

    /// The user's state directory, which they are in.
    pub(crate) fn state_dir(&self) -> &Path {
        self.directory.ancestors().nth(2).unwrap_or(&self.directory)
    }

    /// Returns the files for `/data`, at the paths of [`krazy_boot::api::credentials`]; the same bytes at every call and
    /// every build. The directories above these files are for root alone, mode 0700.
    pub(crate) fn data_files(&self) -> anyhow::Result<Vec<DataFile>> {
        let file = |path, bytes, mode| DataFile { path, bytes, mode };
        Ok(vec![
            file(credentials::CERTIFICATE, self.tls.certificate.clone().into_bytes(), 0o644),
            file(credentials::PRIVATE_KEY, self.tls.private_key.clone().into_bytes(), 0o600),
            file(credentials::TOKENS, self.tokens.to_json()?, 0o600),
            file(credentials::UPDATE_KEYS, format!("{}\n", self.update_key.public()?).into_bytes(), 0o644),
        ])
    }
}

/// Bytes from the operating system's generator.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the operating system gives no random bytes: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
