//! Requests to one device: the certificate pinned, the token sent, problems reported.

mod access;
mod opening;

use std::fmt::Display;
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use krazy_boot::api::Endpoint;
use krazy_boot::api::credentials::Token;
use krazy_boot::api::operation::BINARY;
use krazy_boot::api::problem::ProblemDetails;
use krazy_boot::disk::size::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use self::access::Access;
use super::credentials::Credentials;
use super::error::DeviceError;
use super::lookup::Lookup;
use super::pinned::{self, Presented};
use super::target::Target;
use crate::failure::{Failure, chain};
use crate::interrupt;
use crate::provision::DeviceId;
use krazy_boot::digest::hex;

/// The timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout between two pieces of a response. A device may be busy reading back what it was sent.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval at which blocked requests check for an interrupt.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The longest response that is read into memory.
pub(crate) const MAX_RESPONSE: Bytes = Bytes::mib(8);

/// The timeouts of an upload without progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallTimeouts {
    /// While data is left to send.
    pub(crate) sending: Duration,
    /// After everything is sent, until the response.
    pub(crate) reply: Duration,
}

impl From<Duration> for StallTimeouts {
    fn from(limit: Duration) -> Self {
        StallTimeouts { sending: limit, reply: limit }
    }
}

/// One device and the credentials for it.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    base: String,
    target: Target,
    appliance: String,
    credentials: Credentials,
    lookup: Lookup,
    /// The means of sending to the device, once it has shown its certificate.
    access: OnceLock<Access>,
}

impl Client {
    /// The name that the user gave.
    pub(crate) fn device(&self) -> &str {
        &self.target.name
    }

    /// The device.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The token that is sent. Asks the device which one it is, if it has not been asked yet.
    pub(crate) fn token(&self) -> Result<&Token, DeviceError> {
        self.access().map(|access| &access.token)
    }

    /// The id of the device; nothing if it has the certificate that all devices of the appliance share. Asks the device if
    /// it has not been asked yet.
    pub(crate) fn id(&self) -> Result<Option<DeviceId>, DeviceError> {
        self.access().map(|access| access.id)
    }

    /// The appliance whose certificate the device must have.
    pub(crate) fn appliance(&self) -> &str {
        &self.appliance
    }

    /// Returns the JSON of a `GET`.
    pub(crate) fn get<T: DeserializeOwned>(&self, endpoint: impl Display) -> Result<T, DeviceError> {
        self.get_within(endpoint, REPLY_TIMEOUT)
    }

    /// Returns the JSON of a `GET` whose response may take up to `timeout`.
    pub(crate) fn get_within<T: DeserializeOwned>(
        &self,
        endpoint: impl Display,
        timeout: Duration,
    ) -> Result<T, DeviceError> {
        let path = endpoint.to_string();
        let request = self.request(Method::GET, &path)?;
        let bytes = self.run(async {
            let mut response = self.respond(request, timeout).await?;
            self.whole(&mut response).await
        })?;
        self.parse(&path, &bytes)
    }

    /// Requests an operation without a body, and ignores the content of its response.
    pub(crate) fn call(&self, endpoint: &Endpoint) -> Result<(), DeviceError> {
        self.exchange(endpoint, None).map(drop)
    }

    /// Requests an operation with a body, and returns the content of its response.
    pub(crate) fn call_with(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<Vec<u8>, DeviceError> {
        self.exchange(endpoint, Some(body))
    }

    /// Reads the JSON of a response.
    pub(crate) fn parse<T: DeserializeOwned>(
        &self,
        endpoint: impl Display,
        bytes: &[u8],
    ) -> Result<T, DeviceError> {
        serde_json::from_slice(bytes).map_err(|error| self.foreign(format!("{endpoint}: {error}")))
    }

    fn exchange(&self, endpoint: &Endpoint, body: Option<Vec<u8>>) -> Result<Vec<u8>, DeviceError> {
        let definition = endpoint.operation().definition();
        let method = Method::from_bytes(definition.method.name().as_bytes())
            .unwrap_or_else(|error| unreachable!("the table has methods of HTTP: {error}"));
        let mut request = self.request(method, &endpoint.to_string())?;
        if let Some(body) = body {
            let media_type = definition.body.map_or(BINARY, |content| content.media_type);
            request = request.header(CONTENT_TYPE, media_type).body(body);
        }
        self.run(async {
            let mut response = self.respond(request, REPLY_TIMEOUT).await?;
            self.whole(&mut response).await
        })
    }

    /// Reads the response of a `GET` in pieces. `begin` gets its length if the device sends that.
    pub(crate) fn read(
        &self,
        endpoint: impl Display,
        mut begin: impl FnMut(Option<u64>),
        mut piece: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), DeviceError> {
        let request = self.request(Method::GET, &endpoint.to_string())?;
        self.run(async {
            let mut response = self.respond(request, REPLY_TIMEOUT).await?;
            begin(response.content_length());
            while let Some(bytes) = self.chunk(&mut response, REPLY_TIMEOUT).await? {
                piece(&bytes)?;
            }
            Ok(())
        })
    }

    /// Reads the response of a `GET` in pieces until `piece` returns `false` or the device ends it. Fails if no piece
    /// arrives for `timeout`.
    pub(crate) fn listen(
        &self,
        endpoint: impl Display,
        timeout: Duration,
        mut piece: impl FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<(), DeviceError> {
        let request = self.request(Method::GET, &endpoint.to_string())?;
        self.run(async {
            let mut response = self.respond(request, REPLY_TIMEOUT).await?;
            while let Some(bytes) = self.chunk(&mut response, timeout).await? {
                if !piece(&bytes)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Sends `body` of `len` bytes. `sent` returns the number of bytes sent so far; fails if that does not change for as
    /// long as `timeouts` allow, and no response arrives.
    pub(crate) fn send(
        &self,
        method: Method,
        endpoint: impl Display,
        body: Body,
        len: u64,
        timeouts: impl Into<StallTimeouts>,
        sent: impl Fn() -> u64,
    ) -> Result<Vec<u8>, DeviceError> {
        let timeouts = timeouts.into();
        let request = self
            .request(method, &endpoint.to_string())?
            .header(CONTENT_TYPE, BINARY)
            .header(reqwest::header::CONTENT_LENGTH, len)
            .body(body);
        self.run(async {
            let sending = self.respond(request, Duration::MAX);
            tokio::pin!(sending);
            let (mut last, mut since) = (sent(), Instant::now());
            let mut response = loop {
                match tokio::time::timeout(POLL_INTERVAL, &mut sending).await {
                    Ok(response) => break response?,
                    Err(_) if sent() != last => (last, since) = (sent(), Instant::now()),
                    Err(_) => {
                        let limit = if last < len { timeouts.sending } else { timeouts.reply };
                        if since.elapsed() > limit {
                            return Err(self.broken(format!("nothing moved for {} s", limit.as_secs())));
                        }
                    }
                }
            };
            self.whole(&mut response).await
        })
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, DeviceError> {
        Ok(self.access()?.http.request(method, format!("{}{path}", self.base)))
    }

    /// Drives `work`, and checks for an interrupt meanwhile.
    fn run<T>(&self, work: impl Future<Output = Result<T, DeviceError>>) -> Result<T, DeviceError> {
        self.runtime.block_on(async {
            tokio::pin!(work);
            loop {
                match tokio::time::timeout(POLL_INTERVAL, &mut work).await {
                    Ok(result) => return result,
                    Err(_) => interrupt::check()?,
                }
            }
        })
    }

    /// Sends a request. Returns the beginning of the response if it is not a problem.
    async fn respond(&self, request: RequestBuilder, timeout: Duration) -> Result<Response, DeviceError> {
        let sent = match timeout {
            Duration::MAX => request.send().await,
            timeout => match tokio::time::timeout(CONNECT_TIMEOUT + timeout, request.send()).await {
                Ok(sent) => sent,
                Err(_) => {
                    return Err(self.broken(format!("no answer within {} s", timeout.as_secs())));
                }
            },
        };
        let mut response = sent.map_err(|error| self.unsent(&error, None))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.whole(&mut response).await?;
        match serde_json::from_slice::<ProblemDetails>(&bytes) {
            Ok(problem) => Err(self.refused(problem)),
            Err(_) => Err(self.foreign(format!("status {status}"))),
        }
    }

    async fn whole(&self, response: &mut Response) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.chunk(response, REPLY_TIMEOUT).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MAX_RESPONSE.0 {
                return Err(DeviceError::TooLong { device: self.target.name.clone(), limit: MAX_RESPONSE });
            }
        }
        Ok(bytes)
    }

    async fn chunk(
        &self,
        response: &mut Response,
        timeout: Duration,
    ) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>, DeviceError> {
        match tokio::time::timeout(timeout, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.broken(chain(&error))),
            Err(_) => Err(self.broken(format!("silence for {} s", timeout.as_secs()))),
        }
    }

    /// The error of a request that was not sent, by a connection that noted `presented`.
    fn unsent(&self, error: &reqwest::Error, presented: Option<Presented>) -> DeviceError {
        let device = self.target.name.clone();
        let noted = self.access.get().and_then(|access| pinned::take(&access.notes));
        if let Some(Presented::Rejected(found)) = presented.or(noted) {
            let pinned =
                self.access.get().map(|access| access.pinned).or_else(|| self.shared().first().copied());
            let (found, pinned) = (hex(&found), pinned.map(|pinned| hex(&pinned)));
            return DeviceError::Certificate { device, appliance: self.appliance.clone(), found, pinned };
        }
        let why = chain(error);
        if error.is_connect() || error.is_builder() {
            let address = self.target.address.to_string();
            return DeviceError::Unreachable { device, address, why };
        }
        DeviceError::Broken { device, why }
    }

    fn broken(&self, why: String) -> DeviceError {
        DeviceError::Broken { device: self.target.name.clone(), why }
    }

    /// The error of a request that the device rejects.
    pub(crate) fn refused(&self, problem: ProblemDetails) -> DeviceError {
        DeviceError::Refused {
            device: self.target.name.clone(),
            appliance: self.appliance.clone(),
            own: self.access.get().is_some_and(|access| access.id.is_some()),
            problem: Box::new(problem),
        }
    }

    /// The error of a response that is malformed.
    pub(crate) fn foreign(&self, why: String) -> DeviceError {
        DeviceError::Foreign { device: self.target.name.clone(), why }
    }
}

#[cfg(test)]
mod tests;
