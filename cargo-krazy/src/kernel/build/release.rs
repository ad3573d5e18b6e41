//! Releases of kernel.org: their list and their tarballs, verified.
//!
//! Every directory of releases has a file `sha256sums.asc`, a list of SHA-256 sums signed in the clear by kernel.org's
//! checksum autosigner (<https://www.kernel.org/signature.html>). The signer's key is part of this program, so no
//! mirror and no network needs to be trusted.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use pgp::composed::{Deserializable, SignedPublicKey};

use crate::download::{DownloadError, Expected, Fetcher};
use crate::failure::{Exit, Explain, Result};
use crate::files::measure;
use crate::kernel::source::cache::KernelCache;
use crate::kernel::source::debian::{Keyring, SignatureError};
use crate::shell::Shell;
use krazy_boot::digest::is_sha256;

/// The URL of all releases.
pub(crate) const KERNEL_ORG: &str = "https://cdn.kernel.org/pub/linux/kernel";
/// The series that our fragments are written for: the longterm one that Debian 13 has, too.
pub(crate) const DEFAULT: &str = "6.12.x";
/// `Kernel.org checksum autosigner`, B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1.
const AUTOSIGNER: &[u8] = include_bytes!("keys/kernel.org-autosigner.gpg");
/// Bytes of a list of sums at most; that of Linux 6 has 1.5 MB.
const MAX_SUMS: u64 = 32 << 20;
/// Bytes of a tarball at most; Linux 6.12 has 150 MB.
const MAX_TARBALL: u64 = 1 << 30;

/// A release, or the newest one of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// `6.12.48`, or `6.12` for the first of its series.
    Exact(String),
    /// `6.12.x`: the newest of that series.
    Newest(String),
}

/// A text that names no release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a release such as 6.12.48, or 6.12.x for the newest of a series")]
pub(crate) struct NotARelease;

impl FromStr for Release {
    type Err = NotARelease;

    fn from_str(text: &str) -> Result<Self, NotARelease> {
        let series = text.strip_suffix(".x");
        let numbers: Vec<_> = series.unwrap_or(text).split('.').collect();
        let sound =
            numbers.iter().all(|part| !part.is_empty() && part.len() < 6 && part.parse::<u32>().is_ok());
        match (series, numbers.len()) {
            (Some(series), 2) if sound => Ok(Release::Newest(series.to_owned())),
            (None, 2 | 3) if sound => Ok(Release::Exact(text.to_owned())),
            _ => Err(NotARelease),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Release::Exact(version) => f.write_str(version),
            Release::Newest(series) => write!(f, "{series}.x"),
        }
    }
}

impl Release {
    /// `v6.x`, the directory it is in.
    fn directory(&self) -> String {
        let (Release::Exact(version) | Release::Newest(version)) = self;
        format!("v{}.x", version.split('.').next().unwrap_or_default())
    }

    /// The release's version and its tarball's SHA-256 in a list of sums.
    fn find(&self, sums: &str) -> Option<(String, String)> {
        let releases = sums.lines().filter_map(|line| {
            let (sha256, name) = line.trim_end().split_once("  ")?;
            let version = name.strip_prefix("linux-")?.strip_suffix(".tar.xz")?;
            is_sha256(sha256).then(|| (version.to_owned(), sha256.to_owned()))
        });
        match self {
            Release::Exact(wanted) => releases.into_iter().find(|(version, _)| version == wanted),
            Release::Newest(series) => releases
                .filter_map(|(version, sha256)| {
                    let rest = version.strip_prefix(series.as_str())?;
                    let sub =
                        if rest.is_empty() { 0 } else { rest.strip_prefix('.')?.parse::<u32>().ok()? };
                    Some((sub, version, sha256))
                })
                .max()
                .map(|(_, version, sha256)| (version, sha256)),
        }
    }
}

/// A release that kernel.org does not provide.
#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    #[error("Linux {release} is asked of kernel.org, and --offline forbids to use the network")]
    Offline { release: Release },
    #[error("there is no Linux {release} in {directory}")]
    Unknown { release: Release, directory: String },
    #[error("{url} was not signed by kernel.org: {why}")]
    Unsigned { url: String, why: SignatureError },
}

impl Explain for ReleaseError {
    fn exit(&self) -> Exit {
        match self {
            ReleaseError::Offline { .. } | ReleaseError::Unknown { .. } => Exit::Usage,
            ReleaseError::Unsigned { .. } => Exit::Fetch,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            ReleaseError::Offline { .. } => {
                "give a tarball or a tree with `--source`, or run it without --offline"
            }
            ReleaseError::Unknown { .. } => {
                "https://www.kernel.org/ lists the releases; write 6.12.x for the newest of a series"
            }
            ReleaseError::Unsigned { .. } => {
                "the server is out of date or was tampered with: try again later, or another `--mirror`"
            }
        };
        Some(help.to_owned())
    }
}

/// Returns the tarball of `release` and its SHA-256, from the cache if it was fetched before.
pub(crate) fn tarball(
    release: &Release,
    mirror: &str,
    cache: &KernelCache,
    offline: bool,
    shell: Shell,
) -> Result<(PathBuf, String)> {
    if offline {
        return Err(ReleaseError::Offline { release: release.clone() }.into());
    }
    let keyring = embedded()?;
    fetch(release, mirror, &keyring, cache, &Fetcher::new(shell)?, shell)
}

fn embedded() -> Result<Keyring, SignatureError> {
    let key = SignedPublicKey::from_bytes(AUTOSIGNER).map_err(SignatureError::Key)?;
    Keyring::new(vec![key])
}

fn fetch(
    release: &Release,
    mirror: &str,
    keyring: &Keyring,
    cache: &KernelCache,
    fetcher: &Fetcher,
    shell: Shell,
) -> Result<(PathBuf, String)> {
    let directory = format!("{}/{}", mirror.trim_end_matches('/'), release.directory());
    let url = format!("{directory}/sha256sums.asc");
    let sums = match fetcher.to_memory(&url, MAX_SUMS, None) {
        Err(DownloadError::NotFound { .. }) => return Err(unknown(release, directory).into()),
        other => other?,
    };
    let signed = keyring.signed_text(&String::from_utf8_lossy(&sums), SystemTime::now());
    let sums = signed.map_err(|why| ReleaseError::Unsigned { url, why })?;
    let (version, sha256) = release.find(&sums).ok_or_else(|| unknown(release, directory.clone()))?;
    let _guard = cache.guard(shell)?;
    let file = cache.download(&format!("linux-{version}.tar.xz"))?;
    if file.exists() && measure(&file)?.1 == sha256 {
        return Ok((file, sha256));
    }
    let url = format!("{directory}/linux-{version}.tar.xz");
    shell.status("Fetching", &url);
    let expected = Expected { size: None, sha256: sha256.clone(), limit: MAX_TARBALL };
    fetcher.to_file(&url, &file, &expected)?;
    Ok((file, sha256))
}

fn unknown(release: &Release, directory: String) -> ReleaseError {
    ReleaseError::Unknown { release: release.clone(), directory }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::download::test_server::Server;
    use crate::kernel::source::debian::testing::{keyring, secret_key, signed};
    use krazy_boot::digest::hex;

    const TARBALL: &[u8] = b"not really a tarball";

    struct Setup {
        server: Server,
        directory: tempfile::TempDir,
        keyring: Keyring,
    }

    impl Setup {
        /// A kernel.org with Linux 6.9.3 and its list, changed by `change` after it was signed.
        fn new(change: impl Fn(String) -> String) -> Self {
            let key = secret_key();
            let sum = hex(&Sha256::digest(TARBALL));
            let other = "12".repeat(32);
            let sums = format!(
                "{other}  ChangeLog-6.9.3\n{other}  linux-6.9.tar.xz\n{sum}  linux-6.9.3.tar.xz\n\
                 {other}  linux-6.9.3.tar.gz\n{other}  linux-6.10.tar.xz\n{other}  patch-6.9.20.xz\n"
            );
            let server = Server::start();
            server.serve("/v6.x/sha256sums.asc", change(signed(&key, &sums)).into_bytes());
            server.serve("/v6.x/linux-6.9.3.tar.xz", TARBALL.to_vec());
            Setup { server, directory: tempfile::tempdir().unwrap(), keyring: keyring(&key) }
        }

        fn fetch(&self, release: &str) -> Result<(PathBuf, String)> {
            let cache = KernelCache::new(self.directory.path());
            let fetcher = Fetcher::for_tests();
            fetch(
                &release.parse().unwrap(),
                &self.server.url(""),
                &self.keyring,
                &cache,
                &fetcher,
                Shell::default(),
            )
        }

        fn error(&self, release: &str) -> String {
            self.fetch(release).unwrap_err().to_string().replace(&self.server.url(""), "URL")
        }
    }

    #[test]
    fn newest_of_a_series_is_fetched_once() {
        let setup = Setup::new(|sums| sums);
        let (file, sha256) = setup.fetch("6.9.x").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), TARBALL);
        assert_eq!(sha256, hex(&Sha256::digest(TARBALL)));
        assert!(file.ends_with("linux-6.9.3.tar.xz"), "{}", file.display());
        setup.fetch("6.9.3").unwrap();
        let tarballs = setup.server.asked().iter().filter(|asked| asked.path.ends_with(".tar.xz")).count();
        assert_eq!(tarballs, 1);
    }

    #[test]
    fn unknown_release_is_named() {
        let setup = Setup::new(|sums| sums);
        assert_eq!(setup.error("6.9.4"), "there is no Linux 6.9.4 in URL/v6.x");
        assert_eq!(setup.error("6.8.x"), "there is no Linux 6.8.x in URL/v6.x");
        assert_eq!(setup.error("9.1"), "there is no Linux 9.1 in URL/v9.x");
    }

    #[test]
    fn changed_list_is_rejected() {
        let setup = Setup::new(|sums| sums.replace("6.9.3", "6.9.4"));
        let error = setup.error("6.9.4");
        assert!(error.starts_with("URL/v6.x/sha256sums.asc was not signed by kernel.org: "), "{error}");
        assert!(error.contains("does not match the text"), "{error}");
        let stranger = Setup { keyring: keyring(&secret_key()), ..Setup::new(|sums| sums) };
        assert!(stranger.error("6.9.3").ends_with("none of its signatures is by a key this program knows"));
    }

    #[test]
    fn tarball_with_another_hash_is_not_kept() {
        let setup = Setup::new(|sums| sums);
        setup.server.serve("/v6.x/linux-6.9.3.tar.xz", b"tampered".to_vec());
        let error = setup.error("6.9.3");
        assert!(
            error.starts_with("URL/v6.x/linux-6.9.3.tar.xz has the wrong content: its SHA-256 is "),
            "{error}"
        );
        let left = std::fs::read_dir(setup.directory.path().join("kernel/downloads")).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn embedded_key_is_kernel_orgs() {
        let key = SignedPublicKey::from_bytes(AUTOSIGNER).unwrap();
        let fingerprint = format!("{:X}", pgp::types::KeyDetails::fingerprint(&key.primary_key));
        assert_eq!(fingerprint, "B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1");
        embedded().unwrap();
    }

    #[test]
    fn offline_means_offline() {
        let directory = tempfile::tempdir().unwrap();
        let cache = KernelCache::new(directory.path());
        let release = DEFAULT.parse().unwrap();
        let error = tarball(&release, KERNEL_ORG, &cache, true, Shell::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Linux 6.12.x is asked of kernel.org, and --offline forbids to use the network"
        );
    }

    #[test]
    fn releases_are_numbers() {
        for good in ["6.12", "6.12.48", "6.12.x", "10.0.123"] {
            assert_eq!(good.parse::<Release>().unwrap().to_string(), good);
        }
        for bad in
            ["", "6", "6.x", "6.12.48.x", "6.12-rc1", "../6.12", "6..1", "v6.12", "6.12.1.2", "6.1234567"]
        {
            assert!(bad.parse::<Release>().is_err(), "{bad}");
        }
    }
}
