//! The identity of a device, and the credentials that belong to it.
//!
//! A device has a certificate and a token of its own, or those that all devices of its appliance share. So that no device
//! gets the token of another one, it is asked for its certificate first, without a token; then only this certificate is
//! accepted, and the token that belongs to it is sent.

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::Token;
use reqwest::Method;
use rustls_pki_types::CertificateDer;

use super::{CONNECT_TIMEOUT, Client, REPLY_TIMEOUT};
use crate::device::DeviceError;
use crate::device::known;
use crate::device::pinned::{self, Accepted, Fingerprint, Notes, Presented};
use crate::provision::DeviceId;

/// The credentials for one device.
pub(super) struct Access {
    pub(super) http: reqwest::Client,
    pub(super) token: Token,
    /// The device's id, if its certificate has one.
    pub(super) id: Option<DeviceId>,
    /// A certificate that it must have.
    pub(super) pinned: Fingerprint,
    pub(super) notes: Notes,
}

impl Client {
    /// Returns the credentials for the device, which is asked at the first call.
    pub(super) fn access(&self) -> Result<&Access, DeviceError> {
        if let Some(access) = self.access.get() {
            return Ok(access);
        }
        let access = self.identify()?;
        Ok(self.access.get_or_init(|| access))
    }

    /// Returns true if clients of this appliance take `certificate` for that of the device `id`.
    pub(crate) fn recognises(&self, certificate: &CertificateDer<'_>, id: DeviceId) -> bool {
        let authority = self.credentials.authority.clone();
        let presented = Accepted { pinned: Vec::new(), authority }.examine(certificate);
        matches!(presented, Presented::Own(_, found) if found == id)
    }

    /// Remembers that the device may have the id `id` soon.
    pub(crate) fn expect(&self, id: DeviceId) -> Result<(), DeviceError> {
        Ok(known::expect(&self.credentials.directory, &self.target.name, id)?)
    }

    /// Remembers that the device has the id `id` from now on.
    pub(crate) fn remember(&self, id: DeviceId) -> Result<(), DeviceError> {
        let earlier = self.id()?;
        Ok(known::remember(&self.credentials.directory, &self.target.name, earlier, id)?)
    }

    /// A client for the same device that sends `token`.
    pub(crate) fn with_token(&self, token: &Token) -> Result<Self, DeviceError> {
        let Access { pinned, id, .. } = self.access()?;
        let pinned = if id.is_some() { vec![*pinned] } else { self.shared() };
        let access = self.access_with(pinned, token.clone(), *id)?;
        let client = Client::new(&self.target, &self.appliance, &self.credentials)?;
        let _first = client.access.set(access);
        Ok(client)
    }

    /// The fingerprints of certificates that devices share.
    pub(super) fn shared(&self) -> Vec<Fingerprint> {
        self.credentials.certificates.iter().map(pinned::fingerprint).collect()
    }

    fn identify(&self) -> Result<Access, DeviceError> {
        if self.credentials.authority.is_none() {
            return self.find_shared_token();
        }
        if let Some(Presented::Own(pinned, id)) = self.presented()? {
            known::check(&self.credentials.directory, &self.target.name, Some(id))?;
            let given = || self.credentials.tokens.first().cloned();
            let own = self.credentials.own_tokens.as_ref().map(|tokens| tokens.of(id));
            let token = own.or_else(given).ok_or_else(|| self.no_token())?;
            return self.access_with(vec![pinned], token, Some(id));
        }
        known::check(&self.credentials.directory, &self.target.name, None)?;
        self.find_shared_token()
    }

    /// Returns the credentials for a device with a certificate that all devices share: the first token that it knows.
    fn find_shared_token(&self) -> Result<Access, DeviceError> {
        let [first, others @ ..] = &self.credentials.tokens[..] else { return Err(self.no_token()) };
        let access = |token: &Token| self.access_with(self.shared(), token.clone(), None);
        if !others.is_empty() {
            for token in &self.credentials.tokens {
                let access = access(token)?;
                let path = format!("{}{}", self.base, Endpoint::Status);
                let asked = access.http.request(Method::GET, path);
                match self.run(self.respond(asked, REPLY_TIMEOUT)) {
                    Err(error) if error.is_unauthorized() => {}
                    // The first request reports other failures.
                    _ => return Ok(access),
                }
            }
        }
        access(first)
    }

    fn no_token(&self) -> DeviceError {
        self.foreign("there is no token for it".to_owned())
    }

    fn access_with(
        &self,
        pinned: Vec<Fingerprint>,
        token: Token,
        id: Option<DeviceId>,
    ) -> Result<Access, DeviceError> {
        let first = pinned.first().copied().unwrap_or_default();
        let notes = Notes::default();
        let http = self.http(Accepted { pinned, authority: None }, &notes, Some(&token))?;
        Ok(Access { http, token, id, pinned: first, notes })
    }

    /// Asks the device for its certificate. The probe of its health needs no token.
    fn presented(&self) -> Result<Option<Presented>, DeviceError> {
        let accepted = Accepted { pinned: self.shared(), authority: self.credentials.authority.clone() };
        let notes = Notes::default();
        let http = self.http(accepted, &notes, None)?;
        let request = http.request(Method::GET, format!("{}{}", self.base, Endpoint::Health));
        let sent = self.run(async {
            let sent = tokio::time::timeout(CONNECT_TIMEOUT + REPLY_TIMEOUT, request.send()).await;
            sent.map_err(|_| self.broken(format!("no answer within {} s", REPLY_TIMEOUT.as_secs())))
        })?;
        let presented = pinned::take(&notes);
        match sent {
            Ok(_) => Ok(presented),
            Err(error) => Err(self.unsent(&error, presented)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::device::Credentials;
    use crate::device::testing::{Device, answer};
    use crate::provision::{provision, store_authority_certificate};

    const GIVEN: &str = "krz_0101010101010101010101010101010101010101010101010101010101010101";

    fn client(device: &Device, state: &Path, given: Option<&str>) -> Client {
        let credentials = Credentials::resolve("weather", state, given.map(Into::into)).unwrap();
        Client::new(&device.target, "weather", &credentials).unwrap()
    }

    fn bearers(device: &Device) -> Vec<Option<String>> {
        let heads = device.heads.lock().unwrap();
        let bearer = |head: &String| {
            let line = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
            line.map(str::to_owned)
        };
        heads.iter().map(bearer).collect()
    }

    #[test]
    fn each_device_gets_its_own_token_and_is_asked_for_its_certificate_without() {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision("weather", state.path()).unwrap();
        let identity = secrets.authority().unwrap().new_identity("weather").unwrap();
        for (pem, token, id) in [
            (secrets.pair().pem(), secrets.token().clone(), None),
            (identity.pair.pem(), identity.token.clone(), Some(identity.id)),
        ] {
            let mut device = Device::start_as(&pem, Box::new(|_, _| answer("200 OK", "{}")));
            "127.0.0.1".clone_into(&mut device.target.name);
            let client = client(&device, state.path(), None);
            client.get::<Value>("/x").unwrap();
            client.get::<Value>("/x").unwrap();
            assert_eq!(client.id().unwrap(), id);
            let token = Some(token.reveal());
            assert_eq!(bearers(&device), [None, token.clone(), token]);
        }
    }

    #[test]
    fn token_that_was_given_is_sent_to_devices_of_the_appliance_only() {
        let state = tempfile::tempdir().unwrap();
        let [weather, other] = ["weather", "other"].map(|name| {
            let authority = provision(name, state.path()).unwrap().authority().unwrap();
            Device::start_as(
                &authority.new_identity(name).unwrap().pair.pem(),
                Box::new(|_, _| answer("200 OK", "{}")),
            )
        });
        // Who was given a token needs the authority's certificate only.
        let teammate = tempfile::tempdir().unwrap();
        let secrets = teammate.path().join("weather/secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        let certificate = store_authority_certificate("weather", state.path()).unwrap().unwrap();
        std::fs::copy(certificate, secrets.join("authority.pem")).unwrap();
        client(&weather, teammate.path(), Some(GIVEN)).get::<Value>("/x").unwrap();
        assert_eq!(bearers(&weather), [None, Some(GIVEN.to_owned())]);
        let error = client(&other, state.path(), None).get::<Value>("/x").unwrap_err();
        assert!(matches!(error, DeviceError::Certificate { .. }), "{error:?}");
        assert!(other.heads.lock().unwrap().is_empty());
    }

    #[test]
    fn device_that_passes_for_another_one_gets_nothing() {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision("weather", state.path()).unwrap();
        let authority = secrets.authority().unwrap();
        let [first, second] = [(); 2].map(|()| authority.new_identity("weather").unwrap().pair.pem());
        let shared = secrets.pair().pem();
        for (number, pem) in [&first, &first, &second, &shared].into_iter().enumerate() {
            let device = Device::start_as(pem, Box::new(|_, _| answer("200 OK", "{}")));
            let answered = client(&device, state.path(), None).get::<Value>("/x");
            assert_eq!(answered.is_ok(), number < 2, "{number}");
            if number >= 2 {
                assert!(answered.unwrap_err().to_string().contains("is not the device that it was"));
                assert_eq!(bearers(&device), [None]);
            }
        }
    }
}
