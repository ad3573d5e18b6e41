//! The file a download grows in, and the judgement of what grew.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;

use indicatif::ProgressBar;
use reqwest::header::HeaderValue;

use super::{DownloadError, Expected};
use crate::failure::Failure;
use crate::files::io_failure;
use krazy_boot::digest::sha256_of;

/// A download on its way.
pub(crate) struct Partial<'j> {
    pub(crate) url: &'j str,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) have: u64,
    pub(crate) expected: &'j Expected,
    /// Names the version of the file the bytes so far belong to; known within one run only.
    pub(crate) validator: Option<HeaderValue>,
    pub(crate) bar: ProgressBar,
}

impl Partial<'_> {
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(io_failure("write", &self.path))?;
        self.have = 0;
        self.validator = None;
        Ok(())
    }

    pub(crate) fn check_size(&self, found: u64) -> Result<(), DownloadError> {
        let url = || self.url.to_owned();
        match self.expected.size {
            Some(expected) if found != expected => Err(DownloadError::Size { url: url(), found, expected }),
            _ if found > self.expected.limit => {
                Err(DownloadError::TooLarge { url: url(), limit: self.expected.limit })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn append(&mut self, chunk: &[u8]) -> Result<(), DownloadError> {
        let found = self.have + chunk.len() as u64;
        if found > self.expected.size.unwrap_or(self.expected.limit) {
            self.check_size(found)?;
        }
        self.file.write_all(chunk).map_err(io_failure("write", &self.path))?;
        self.have = found;
        self.bar.set_position(found);
        Ok(())
    }

    pub(crate) fn verify(&mut self) -> Result<(), DownloadError> {
        let found = self.file.rewind().and_then(|()| sha256_of(&mut self.file));
        let found = found.map_err(io_failure("read", &self.path))?;
        verify(self.url, self.expected, self.have, found.to_string())
    }
}

/// Compares the size and the SHA-256 (in hex) of what came with what should have come.
pub(crate) fn verify(url: &str, expected: &Expected, size: u64, sha256: String) -> Result<(), DownloadError> {
    let url = || url.to_owned();
    if let Some(wanted) = expected.size
        && wanted != size
    {
        return Err(DownloadError::Size { url: url(), found: size, expected: wanted });
    }
    if sha256 != expected.sha256 {
        return Err(DownloadError::Hash { url: url(), found: sha256, expected: expected.sha256.clone() });
    }
    Ok(())
}
