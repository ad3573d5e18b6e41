//! The files of the credentials below `/data/krazy`, as bytes.
//!
//! A confirmed certificate and its key are first written as one file, [`CONFIRMED`], which appears at once or not at all
//! and counts from then on. Key and certificate in their usual files follow, and then [`CONFIRMED`] is removed. A start
//! that finds it completes these steps.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use krazy_boot::api::credentials::{CERTIFICATE, MAX_FILE, PRIVATE_KEY, RESTORED, TOKENS};

use super::durable_file;

/// A confirmed key and certificate that are not in their usual files yet, relative to `/data`.
const CONFIRMED: &str = "krazy/tls/confirmed.pem";

/// The stored credentials of a device.
#[derive(Clone, Debug)]
pub(crate) struct CredentialStore {
    data: PathBuf,
}

/// Returns the directory that holds the credentials of the device in `root`: `/data`, or where init has restored them if
/// that is damaged.
pub(super) fn directory(root: &Path) -> PathBuf {
    let restored = root.join(RESTORED.trim_start_matches('/'));
    if restored.is_dir() { restored } else { root.join("data") }
}

impl CredentialStore {
    /// Returns the credentials of the device in `root`.
    pub(crate) fn of(root: &Path) -> Self {
        CredentialStore { data: directory(root) }
    }

    /// Returns the path of the file that the host calls `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Returns the path of [`CONFIRMED`].
    pub(crate) fn confirmed_path(&self) -> PathBuf {
        self.data.join(CONFIRMED)
    }

    /// Reads the confirmed key and certificate that are not in their usual files yet, if there are any.
    pub(crate) fn read_confirmed(&self) -> io::Result<Option<Vec<u8>>> {
        durable_file::read_optional(&self.confirmed_path(), MAX_FILE as u64)
    }

    /// Stores a confirmed key and certificate. When this returns, the next start uses them.
    pub(crate) fn write_confirmed(&self, pem: &[u8]) -> io::Result<()> {
        durable_file::replace(&self.confirmed_path(), pem, 0o600)
    }

    /// Moves a confirmed key and certificate to their usual files.
    pub(crate) fn install_confirmed(&self, pem: &[u8]) -> io::Result<()> {
        let confirmed = self.confirmed_path();
        durable_file::replace(&self.path(PRIVATE_KEY), &section(pem, Section::Key), 0o600)?;
        durable_file::replace(&self.path(CERTIFICATE), &section(pem, Section::Certificates), 0o644)?;
        fs::remove_file(&confirmed)?;
        confirmed.parent().map_or(Ok(()), |directory: &Path| File::open(directory)?.sync_all())
    }

    /// Replaces the token file.
    pub(crate) fn write_tokens(&self, json: &[u8]) -> io::Result<()> {
        durable_file::replace(&self.path(TOKENS), json, 0o600)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Certificates,
    /// Everything else.
    Key,
}

/// Returns one section of `pem`. The file of the certificates may be read by everybody, so it must not hold the key.
fn section(pem: &[u8], section: Section) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let (mut in_certificate, mut kept) = (false, String::new());
    for line in text.lines() {
        in_certificate |= line.starts_with("-----BEGIN CERTIFICATE-----");
        if in_certificate == (section == Section::Certificates) {
            kept.push_str(line);
            kept.push('\n');
        }
        in_certificate &= !line.starts_with("-----END CERTIFICATE-----");
    }
    kept.into_bytes()
}
