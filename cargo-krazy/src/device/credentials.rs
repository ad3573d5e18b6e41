//! The credentials of requests: the certificate that the device must have, and the token that is sent to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::{CredentialError, Token};
use rustls_pki_types::CertificateDer;

use crate::failure::{Exit, Explain, Result};
use crate::provision::{self, DeviceTokens};

/// The environment variable whose token is sent in place of the appliance's own, as `cargo krazy token add` prints it.
///
/// There is no option for it: other users of a machine can read command lines.
pub(crate) const VARIABLE: &str = "KRAZY_TOKEN";

/// Returns true if [`VARIABLE`] holds something.
pub(crate) fn given() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|text| !text.is_empty())
}

/// Certificates and tokens. Has no `Debug`, so that it cannot end up in a message.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The certificates to pin: one, and a few more while it is exchanged.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// The authority of devices that have a certificate of their own.
    pub(super) authority: Option<CertificateDer<'static>>,
    /// The tokens that a device may know: one, and a few more while it is exchanged.
    pub(super) tokens: Vec<Token>,
    /// The derivation of tokens for devices with a certificate of their own; nothing if the user gave a token.
    pub(super) own_tokens: Option<DeviceTokens>,
    /// The appliance's directory, which has the ids of devices.
    pub(super) directory: PathBuf,
}

impl Credentials {
    /// Returns those for devices of `appliance`: the token in [`VARIABLE`] with the certificate in `state_dir`, else both from
    /// there.
    pub(crate) fn find(appliance: &str, state_dir: &Path) -> Result<Self> {
        Self::resolve(appliance, state_dir, std::env::var_os(VARIABLE))
    }

    pub(super) fn resolve(appliance: &str, state_dir: &Path, given: Option<OsString>) -> Result<Self> {
        if let Some(text) = given.filter(|text| !text.is_empty()) {
            let tokens = vec![text.to_string_lossy().trim().parse().map_err(TokenError)?];
            return Self::with(appliance, state_dir, tokens, None);
        }
        let tokens = provision::load(appliance, state_dir)?.tokens()?;
        Self::with(appliance, state_dir, tokens, provision::device_tokens(appliance, state_dir)?)
    }

    fn with(
        appliance: &str,
        state_dir: &Path,
        tokens: Vec<Token>,
        own_tokens: Option<DeviceTokens>,
    ) -> Result<Self> {
        let authority = provision::authority_certificate(appliance, state_dir)?;
        let certificates = provision::certificates(appliance, state_dir)?;
        let directory = state_dir.join(appliance);
        Ok(Credentials { certificates, authority, tokens, own_tokens, directory })
    }
}

/// A text in [`VARIABLE`] that is no token. Its message is without the text, which may be a secret with a typing mistake.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} holds no token: {0}")]
struct TokenError(CredentialError);

impl Explain for TokenError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        let help =
            "set it to what `cargo krazy token add` printed, or unset it to use the appliance's own token";
        Some(help.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GIVEN: &str = "krz_0101010101010101010101010101010101010101010101010101010101010101";

    fn refusal(state: &Path, given: Option<&str>) -> (String, String) {
        let Err(error) = Credentials::resolve("weather", state, given.map(OsString::from)) else {
            panic!("unexpectedly usable")
        };
        (error.to_string(), error.next_step().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_token_of_ones_own_comes_before_the_appliances() {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision::provision("weather", state.path()).unwrap();
        let find = |given: Option<&str>| {
            let found = Credentials::resolve("weather", state.path(), given.map(OsString::from)).unwrap();
            assert_eq!(found.certificates, [secrets.pair().certificate().unwrap()]);
            found.tokens[0].reveal()
        };
        assert_eq!(find(None), secrets.token().reveal());
        assert_eq!(find(Some("")), secrets.token().reveal());
        assert_eq!(find(Some(GIVEN)), GIVEN);
        assert_eq!(find(Some(&format!("{GIVEN}\n"))), GIVEN);
        let (text, help) = refusal(state.path(), Some("krz_5ecret"));
        assert!(text.starts_with("KRAZY_TOKEN holds no token") && !text.contains("5ecret"), "{text}");
        assert!(help.contains("unset it"), "{help}");
    }

    #[test]
    fn with_a_token_of_ones_own_the_certificate_is_enough() {
        let (owner, teammate) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secrets = provision::provision("weather", owner.path()).unwrap();
        let (text, help) = refusal(teammate.path(), Some(GIVEN));
        assert!(text.contains("weather/secrets/cert.pem is missing"), "{text}");
        assert!(help.starts_with("copy that file"), "{help}");

        let directory = teammate.path().join("weather/secrets");
        fs::create_dir_all(&directory).unwrap();
        fs::copy(secrets.state_dir().join("weather/secrets").join("cert.pem"), directory.join("cert.pem"))
            .unwrap();
        let found = Credentials::resolve("weather", teammate.path(), Some(GIVEN.into())).unwrap();
        assert_eq!(found.certificates, [secrets.pair().certificate().unwrap()]);
        fs::write(directory.join("cert.pem"), "no certificate").unwrap();
        assert!(refusal(teammate.path(), Some(GIVEN)).0.starts_with("failed to use "));
    }
}
