//! Downloads that survive a bad connection: resumed, retried, bounded, and verified before they get their name.
//!
//! A file grows as `NAME.part` beside its destination and stays there when the program ends early; the next
//! run asks for the rest (RFC 9110 section 14, Range). What arrives is trusted only once its SHA-256 is right,
//! so a server that ignores ranges, changes the file midway or sends other bytes costs time, never correctness.
//!
//! `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` are honoured. Certificates are judged by the
//! system's own store.

mod error;
mod partial;
#[cfg(test)]
pub(crate) mod test_server;

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

pub(crate) use error::DownloadError;
use partial::{Partial, verify};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, chain};
use crate::files::{io_failure, measure};
use crate::interrupt;
use crate::shell::Shell;
use krazy_boot::digest::hex;

/// Attempts in a row that may fail without a single new byte.
const MAX_FRUITLESS_ATTEMPTS: u32 = 4;
/// Attempts altogether, for a connection that breaks again and again but makes progress.
const MAX_ATTEMPTS: u32 = 50;
/// Time to a connection, and between two pieces of an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The expected size and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Bytes, where known.
    pub(crate) size: Option<u64>,
    /// SHA-256 in lower-case hex.
    pub(crate) sha256: String,
    /// Bytes at most.
    pub(crate) limit: u64,
}

/// Downloads, one at a time.
pub(crate) struct Fetcher {
    runtime: tokio::runtime::Runtime,
    client: Client,
    shell: Shell,
    pause: Duration,
}

/// The result of an attempt that did not succeed.
enum Stop {
    Retry(String),
    /// The server has no bytes from the requested position on (416): the file starts anew.
    RangeRefused(String),
    Final(DownloadError),
}

impl Fetcher {
    /// A fetcher that shows its progress through `shell`.
    pub(crate) fn new(shell: Shell) -> Result<Self, DownloadError> {
        Self::with(Client::builder(), shell, Duration::from_secs(1))
    }

    /// A fetcher for servers on this machine that does not wait between attempts.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::with(Client::builder().no_proxy(), Shell::default(), Duration::ZERO).unwrap()
    }

    fn with(builder: reqwest::ClientBuilder, shell: Shell, pause: Duration) -> Result<Self, DownloadError> {
        // An error means that a provider is installed already, which is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: &dyn std::error::Error| DownloadError::Setup { why: chain(error) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = builder
            .user_agent(concat!("cargo-krazy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(RESPONSE_TIMEOUT)
            .read_timeout(RESPONSE_TIMEOUT)
            .build();
        Ok(Fetcher {
            runtime: runtime.map_err(|error| failed(&error))?,
            client: client.map_err(|error| failed(&error))?,
            shell,
            pause,
        })
    }

    /// Downloads `url` into memory, `limit` bytes at most, and verifies it if `expected` is given.
    pub(crate) fn to_memory(
        &self,
        url: &str,
        limit: u64,
        expected: Option<&Expected>,
    ) -> Result<Vec<u8>, DownloadError> {
        self.shell.verbose("Fetching", url);
        let bytes = self.runtime.block_on(async {
            let mut fruitless = 0;
            loop {
                match self.memory_attempt(url, limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(Stop::Final(error)) => return Err(error),
                    Err(Stop::Retry(why) | Stop::RangeRefused(why)) => {
                        fruitless += 1;
                        if fruitless == MAX_FRUITLESS_ATTEMPTS {
                            return Err(DownloadError::Failed { url: url.to_owned(), why });
                        }
                        tokio::time::sleep(self.pause * fruitless).await;
                    }
                }
            }
        })?;
        if let Some(expected) = expected {
            verify(url, expected, bytes.len() as u64, hex(&Sha256::digest(&bytes)))?;
        }
        Ok(bytes)
    }

    async fn memory_attempt(&self, url: &str, limit: u64) -> Result<Vec<u8>, Stop> {
        let mut response = self.answer(url, HeaderMap::new()).await?;
        let too_large = || Stop::Final(DownloadError::TooLarge { url: url.to_owned(), limit });
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Stop::Retry(chain(&error)))? {
            interrupt::check()?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(bytes)
    }

    /// Downloads `url` to the file `destination`, which appears complete and verified or not at all.
    pub(crate) fn to_file(
        &self,
        url: &str,
        destination: &Path,
        expected: &Expected,
    ) -> Result<(), DownloadError> {
        let mut name = destination.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = destination.with_file_name(name);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_failure("write", &path))?;
        let have = file.seek(SeekFrom::End(0)).map_err(io_failure("read", &path))?;
        let bar = self.shell.bytes_bar("Downloading", expected.size.unwrap_or(0));
        let mut part = Partial { url, path, file, have, expected, validator: None, bar };
        let resumed = have > 0;
        if resumed {
            self.shell.verbose("Resuming", format!("{url} after {have} bytes"));
        }
        let mut ended = self.runtime.block_on(self.complete(&mut part)).and_then(|()| part.verify());
        if resumed && matches!(ended, Err(DownloadError::Hash { .. } | DownloadError::Size { .. })) {
            // Bytes left by an earlier run may be of another version of the file, or of a broken disk.
            part.restart()?;
            ended = self.runtime.block_on(self.complete(&mut part)).and_then(|()| part.verify());
        }
        part.bar.finish_and_clear();
        if let Err(error) = ended {
            if matches!(
                error,
                DownloadError::Hash { .. } | DownloadError::Size { .. } | DownloadError::TooLarge { .. }
            ) {
                std::fs::remove_file(&part.path).map_err(io_failure("remove", &part.path))?;
            }
            return Err(error);
        }
        part.file.sync_all().map_err(io_failure("write", &part.path))?;
        std::fs::rename(&part.path, destination).map_err(io_failure("write", destination))?;
        Ok(())
    }

    /// Repeats attempts until the file is as long as it should be, or too many have failed.
    async fn complete(&self, part: &mut Partial<'_>) -> Result<(), DownloadError> {
        let mut fruitless = 0;
        let mut last = String::new();
        for _ in 0..MAX_ATTEMPTS {
            let before = part.have;
            match self.file_attempt(part).await {
                Ok(()) => return Ok(()),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Retry(why) | Stop::RangeRefused(why)) => last = why,
            }
            fruitless = if part.have > before { 0 } else { fruitless + 1 };
            if fruitless == MAX_FRUITLESS_ATTEMPTS {
                break;
            }
            self.shell.verbose("Retrying", format!("{} after {} bytes: {last}", part.url, part.have));
            tokio::time::sleep(self.pause * (fruitless + 1)).await;
        }
        Err(DownloadError::Failed { url: part.url.to_owned(), why: last })
    }

    async fn file_attempt(&self, part: &mut Partial<'_>) -> Result<(), Stop> {
        match part.expected.size {
            Some(size) if part.have == size => return Ok(()),
            Some(size) if part.have > size => part.restart()?,
            _ => {}
        }
        let mut headers = HeaderMap::new();
        if part.have > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", part.have));
            headers.insert(RANGE, range.map_err(|error| Stop::Retry(error.to_string()))?);
            if let Some(validator) = &part.validator {
                headers.insert(IF_RANGE, validator.clone());
            }
        }
        let mut response = match self.answer(part.url, headers).await {
            Err(Stop::RangeRefused(why)) => {
                part.restart()?;
                return Err(Stop::Retry(why));
            }
            other => other?,
        };
        if response.status() != StatusCode::PARTIAL_CONTENT {
            part.restart()?;
        } else if range_start(&response) != Some(part.have) {
            part.restart()?;
            return Err(Stop::Retry("the server sent another range than was asked for".to_owned()));
        }
        part.validator = validator(&response);
        let announced = response.content_length().map(|length| length.saturating_add(part.have));
        if let Some(found) = announced {
            part.check_size(found)?;
        }
        part.bar.set_position(part.have);
        while let Some(chunk) = response.chunk().await.map_err(|error| Stop::Retry(chain(&error)))? {
            interrupt::check()?;
            part.append(&chunk)?;
        }
        match part.expected.size.or(announced) {
            Some(size) if part.have < size => {
                Err(Stop::Retry(format!("the connection ended after {} of {size} bytes", part.have)))
            }
            _ => Ok(()),
        }
    }

    /// Returns the server's answer, if it is one with content.
    async fn answer(&self, url: &str, headers: HeaderMap) -> Result<Response, Stop> {
        let answer = self.client.get(url).headers(headers).send().await;
        let response = answer.map_err(|error| {
            let why = chain(&error);
            if error.is_builder() {
                Stop::Final(DownloadError::Failed { url: url.to_owned(), why })
            } else {
                Stop::Retry(why)
            }
        })?;
        let status = response.status();
        match status.as_u16() {
            200 | 206 => Ok(response),
            404 | 410 => {
                Err(Stop::Final(DownloadError::NotFound { url: url.to_owned(), status: status.as_u16() }))
            }
            416 => Err(Stop::RangeRefused(format!("status {status}"))),
            408 | 429 | 500.. => Err(Stop::Retry(format!("status {status}"))),
            _ => Err(Stop::Final(DownloadError::Failed {
                url: url.to_owned(),
                why: format!("the server answered {status}"),
            })),
        }
    }
}

/// Returns the validator that `If-Range` may carry: a strong entity tag, else a date (RFC 9110 section 13.1.5).
fn validator(response: &Response) -> Option<HeaderValue> {
    let strong = |value: &&HeaderValue| !value.as_bytes().starts_with(b"W/");
    let headers = response.headers();
    headers.get(ETAG).filter(strong).or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// The first byte's position in `Content-Range: bytes FIRST-LAST/SIZE`.
fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim().strip_prefix("bytes")?.trim_start().split_once('-')?.0.parse().ok()
}

/// Compares a file that was brought in another way with the expected one.
///
/// # Errors
/// If it cannot be read, or differs.
pub(crate) fn verify_file(file: &Path, expected: &Expected) -> Result<(), DownloadError> {
    let (bytes, sha256) = measure(file)?;
    verify(&file.display().to_string(), expected, bytes, sha256)
}

impl From<DownloadError> for Stop {
    fn from(error: DownloadError) -> Self {
        Stop::Final(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Final(failure.into())
    }
}

#[cfg(test)]
mod tests;
