//! Requests to one device.

mod opening;

use std::future::Future;
use std::time::{Duration, Instant};

use krazy_boot::api::credentials::Token;
use krazy_boot::api::problem::ProblemDetails;
use krazy_boot::disk::size::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use super::error::DeviceError;
use super::pinned::{self, Fingerprint, Stranger};
use super::selection::Target;
use crate::failure::{Failure, chain};
use crate::interrupt;
use krazy_boot::digest::hex;

/// Time to a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Time between two pieces of an answer. A device may be busy reading back what it was sent.
const ANSWER: Duration = Duration::from_secs(30);

/// How often blocked requests look whether the program was interrupted.
const LOOK: Duration = Duration::from_millis(200);

/// The longest answer that is read into memory.
pub const MAX_ANSWER: Bytes = Bytes::mib(8);

const JSON: &str = "application/json";

/// How long an upload may stand still.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// While there is something left to send.
    pub sending: Duration,
    /// When everything has gone and the answer is awaited.
    pub answer: Duration,
}

impl From<Duration> for Patience {
    fn from(limit: Duration) -> Self {
        Patience { sending: limit, answer: limit }
    }
}

/// One device and the credentials for it.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: String,
    target: Target,
    appliance: String,
    token: Token,
    pinned: Fingerprint,
    stranger: Stranger,
}

impl Client {
    /// The device as the user calls it.
    pub fn device(&self) -> &str {
        &self.target.name
    }

    /// Where the device is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it is sent.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Whose certificate it must have.
    pub fn appliance(&self) -> &str {
        &self.appliance
    }

    /// The JSON at `path`, such as `/api/v1/status`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, DeviceError> {
        self.call(Method::GET, path, None)
    }

    /// The JSON at `path`, which a device may have to think about for as long as `patience`.
    pub fn get_patiently<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
    ) -> Result<T, DeviceError> {
        let bytes = self.run(async {
            let mut response = self.answer(self.request(Method::GET, path), patience).await?;
            self.whole(&mut response).await
        })?;
        self.json(path, &bytes)
    }

    /// A request with a JSON answer. `body` is JSON, too, if it is there.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, DeviceError> {
        let bytes = self.exchange(method, path, body.map(|body| (JSON, body)))?;
        self.json(path, &bytes)
    }

    /// A request whose success says it all.
    pub fn order(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<(), DeviceError> {
        self.exchange(method, path, body.map(|body| (JSON, body))).map(drop)
    }

    /// The same with a body of another kind.
    pub fn call_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: Vec<u8>,
    ) -> Result<T, DeviceError> {
        let bytes = self.exchange(method, path, Some((media_type, body)))?;
        self.json(path, &bytes)
    }

    fn json<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T, DeviceError> {
        serde_json::from_slice(bytes).map_err(|error| self.foreign(format!("{path}: {error}")))
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Vec<u8>, DeviceError> {
        let mut request = self.request(method, path);
        if let Some((media_type, body)) = body {
            request = request.header(CONTENT_TYPE, media_type).body(body);
        }
        self.run(async {
            let mut response = self.answer(request, ANSWER).await?;
            self.whole(&mut response).await
        })
    }

    /// Reads `path` in pieces. The first call tells how long the whole is, where the device knows.
    pub fn read(
        &self,
        path: &str,
        mut begin: impl FnMut(Option<u64>),
        mut piece: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), DeviceError> {
        self.run(async {
            let mut response = self.answer(self.request(Method::GET, path), ANSWER).await?;
            begin(response.content_length());
            while let Some(bytes) = self.chunk(&mut response, ANSWER).await? {
                piece(&bytes)?;
            }
            Ok(())
        })
    }

    /// Reads `path` in pieces until `piece` returns `false` or the device ends it. Silence is no error for as long as
    /// `patience`.
    pub fn listen(
        &self,
        path: &str,
        patience: Duration,
        mut piece: impl FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<(), DeviceError> {
        self.run(async {
            let mut response = self.answer(self.request(Method::GET, path), ANSWER).await?;
            while let Some(bytes) = self.chunk(&mut response, patience).await? {
                if !piece(&bytes)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Sends `body` of `len` bytes. `moved` tells how many of them have gone so far; when that does not change for as
    /// long as `patience` allows, and no answer comes, the connection counts as broken.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        len: u64,
        patience: impl Into<Patience>,
        moved: impl Fn() -> u64,
    ) -> Result<Vec<u8>, DeviceError> {
        let patience = patience.into();
        let request = self
            .request(method, path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(reqwest::header::CONTENT_LENGTH, len)
            .body(body);
        self.run(async {
            let sending = self.answer(request, Duration::MAX);
            tokio::pin!(sending);
            let (mut last, mut since) = (moved(), Instant::now());
            let mut response = loop {
                match tokio::time::timeout(LOOK, &mut sending).await {
                    Ok(response) => break response?,
                    Err(_) if moved() != last => (last, since) = (moved(), Instant::now()),
                    Err(_) => {
                        let limit = if last < len { patience.sending } else { patience.answer };
                        if since.elapsed() > limit {
                            return Err(self.broken(format!("nothing moved for {} s", limit.as_secs())));
                        }
                    }
                }
            };
            self.whole(&mut response).await
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Drives `work` while looking for an interrupt.
    fn run<T>(&self, work: impl Future<Output = Result<T, DeviceError>>) -> Result<T, DeviceError> {
        self.runtime.block_on(async {
            tokio::pin!(work);
            loop {
                match tokio::time::timeout(LOOK, &mut work).await {
                    Ok(result) => return result,
                    Err(_) => interrupt::check()?,
                }
            }
        })
    }

    /// The beginning of the answer, if it is not a problem.
    async fn answer(&self, request: RequestBuilder, patience: Duration) -> Result<Response, DeviceError> {
        let sent = match patience {
            Duration::MAX => request.send().await,
            patience => match tokio::time::timeout(CONNECT + patience, request.send()).await {
                Ok(sent) => sent,
                Err(_) => {
                    return Err(self.broken(format!("no answer within {} s", patience.as_secs())));
                }
            },
        };
        let mut response = sent.map_err(|error| self.unsent(&error))?;
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
        while let Some(piece) = self.chunk(response, ANSWER).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MAX_ANSWER.0 {
                return Err(DeviceError::TooLong { device: self.target.name.clone(), limit: MAX_ANSWER });
            }
        }
        Ok(bytes)
    }

    async fn chunk(
        &self,
        response: &mut Response,
        patience: Duration,
    ) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>, DeviceError> {
        match tokio::time::timeout(patience, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.broken(chain(&error))),
            Err(_) => Err(self.broken(format!("silence for {} s", patience.as_secs()))),
        }
    }

    fn unsent(&self, error: &reqwest::Error) -> DeviceError {
        let device = self.target.name.clone();
        if let Some(found) = pinned::take(&self.stranger) {
            let (found, pinned) = (hex(&found), hex(&self.pinned));
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

    /// The error for a request that the device does not do.
    pub fn refused(&self, problem: ProblemDetails) -> DeviceError {
        DeviceError::Refused {
            device: self.target.name.clone(),
            appliance: self.appliance.clone(),
            problem: Box::new(problem),
        }
    }

    /// The error for an answer that makes no sense.
    pub fn foreign(&self, why: String) -> DeviceError {
        DeviceError::Foreign { device: self.target.name.clone(), why }
    }
}

#[cfg(test)]
mod tests;
