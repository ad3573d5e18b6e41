//! New secrets in the place of old ones, as the commands that exchange them see it; see [`super::exchange`].

use anyhow::Context;
use krazy_boot::api::credentials::{HashedToken, Role, Scope, Token, TokenFile};
use krazy_boot::digest::{Hex, Sha256Hash};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::certificate::{self, TlsIdentity};
use super::exchange::{ADMIN_TOKENS, CERTIFICATES, UPDATE_KEYS};
use super::update_key::UpdateSigner;
use super::{FIRST_TOKEN, Secrets, check_name, new_token, random, store};
use crate::failure::Result;

/// A key and its certificate for a device. Has no `Debug`, so that the key cannot end up in a message.
#[derive(Clone)]
pub(crate) struct Pair(TlsIdentity);

impl Pair {
    pub(super) fn new(identity: TlsIdentity) -> Self {
        Pair(identity)
    }

    pub(super) fn into_identity(self) -> TlsIdentity {
        self.0
    }

    /// Both in PEM, as a device takes them.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.0.private_key, self.0.certificate)
    }

    /// The certificate, DER.
    pub(crate) fn certificate(&self) -> anyhow::Result<CertificateDer<'static>> {
        self.0.certificate_der()
    }

    /// The hash by which devices name it.
    pub(crate) fn sha256(&self) -> anyhow::Result<Sha256Hash> {
        Ok(Hex(Sha256::digest(self.certificate()?).into()))
    }
}

/// The form to store of `token` under another name.
pub(crate) fn stored_token(
    name: &str,
    role: Role,
    scopes: Vec<Scope>,
    token: &Token,
) -> anyhow::Result<HashedToken> {
    Ok(HashedToken::new(name, role, scopes, token, random()?))
}

impl Secrets {
    /// The pair that devices have, or are to have.
    pub(crate) fn pair(&self) -> Pair {
        Pair(self.tls.clone())
    }

    /// The pair that an earlier run began to bring to a device.
    pub(crate) fn next_pair(&self) -> anyhow::Result<Option<Pair>> {
        let next = CERTIFICATES.next(&self.directory)?;
        next.map(|next| {
            let [private_key, certificate] = pair_of(next)?;
            let identity = TlsIdentity { certificate, private_key };
            identity.check().context("the next certificate cannot be used")?;
            Ok(Pair(identity))
        })
        .transpose()
    }

    /// Makes the next pair for the appliance `name`, and stores it before any device has it. One that is there
    /// already stays.
    pub(crate) fn make_next_pair(&self, name: &str) -> anyhow::Result<Pair> {
        let made = TlsIdentity::generate(name)?;
        CERTIFICATES.begin(&self.directory, &[&made.private_key, &made.certificate])?;
        self.next_pair()?.context("the next certificate has gone again")
    }

    /// The next pair is the present one from now on, also for new images.
    pub(crate) fn adopt_next_pair(&self) -> anyhow::Result<()> {
        CERTIFICATES.finish(&self.directory)
    }

    /// Certificates of earlier pairs are not accepted any more. Returns how many there were.
    pub(crate) fn forget_former_certificates(&self) -> anyhow::Result<usize> {
        CERTIFICATES.forget(&self.directory)
    }

    /// The token that an earlier run began to bring to a device.
    pub(crate) fn next_token(&self) -> anyhow::Result<Option<Token>> {
        let next = ADMIN_TOKENS.next(&self.directory)?;
        let token = next.and_then(|mut next| next.pop());
        Ok(token.map(|token| token.trim_end().parse()).transpose()?)
    }

    /// Makes the next token, and stores it before any device has it. One that is there already stays.
    pub(crate) fn make_next_token(&self) -> anyhow::Result<Token> {
        let (token, entry) = new_token(FIRST_TOKEN, Role::Admin, Vec::new())?;
        let hashed = String::from_utf8(TokenFile::new(vec![entry])?.to_json()?)?;
        ADMIN_TOKENS.begin(&self.directory, &[&hashed, &format!("{}\n", token.reveal())])?;
        self.next_token()?.context("the next token has gone again")
    }

    /// The next token is the present one from now on, also for new images.
    pub(crate) fn adopt_next_token(&self) -> anyhow::Result<()> {
        ADMIN_TOKENS.finish(&self.directory)
    }

    /// The update key that an earlier run began to bring to a device.
    pub(crate) fn next_update_key(&self) -> anyhow::Result<Option<UpdateSigner>> {
        let next = UPDATE_KEYS.next(&self.directory)?.and_then(|mut next| next.pop());
        next.map(|pem| UpdateSigner::from_pem(&pem)).transpose()
    }

    /// Makes the next update key, and stores it before any device has it. One that is there already stays.
    pub(crate) fn make_next_update_key(&self) -> anyhow::Result<UpdateSigner> {
        UPDATE_KEYS.begin(&self.directory, &[&UpdateSigner::generate()?.to_pem()])?;
        self.next_update_key()?.context("the next update key has gone again")
    }

    /// The next update key is the present one from now on, also for new images.
    pub(crate) fn adopt_next_update_key(&self) -> anyhow::Result<()> {
        UPDATE_KEYS.finish(&self.directory)
    }

    /// Every token that a device of the appliance may know: the present one, the next one, earlier ones.
    pub(crate) fn tokens(&self) -> anyhow::Result<Vec<Token>> {
        let mut tokens = vec![self.token.clone()];
        tokens.extend(self.next_token()?);
        for text in ADMIN_TOKENS.former(&self.directory)? {
            tokens.push(text.trim_end().parse()?);
        }
        Ok(tokens)
    }
}

/// Update keys of the appliance `name` that its devices may still have instead of the present one, the newest first.
pub(crate) fn former_update_keys(name: &str, state_dir: &std::path::Path) -> Result<Vec<UpdateSigner>> {
    check_name(name)?;
    let directory = store::directory(state_dir, name);
    let former = UPDATE_KEYS.former(&directory)?;
    let keys: anyhow::Result<_> = former.iter().map(|pem| UpdateSigner::from_pem(pem)).collect();
    Ok(keys.with_context(|| store::reading(&directory))?)
}

fn pair_of(texts: Vec<String>) -> anyhow::Result<[String; 2]> {
    texts.try_into().ok().context("the next certificate has other files")
}

/// Every certificate in `directory` that a device may have besides the present one: the next one, earlier ones.
pub(super) fn other_certificates(
    directory: &std::path::Path,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let next = CERTIFICATES.next(directory)?.and_then(|mut next| next.pop());
    let former = CERTIFICATES.former(directory)?;
    next.iter().chain(&former).map(|pem| certificate::parse(pem)).collect()
}
