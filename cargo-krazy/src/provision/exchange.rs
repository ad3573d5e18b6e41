//! Secrets that are being exchanged on running devices: the next ones beside the present ones, until a device has
//! shown that it works with them.
//!
//! | in the appliance's `secrets` | is |
//! |---|---|
//! | `next-certificate/key.pem`, `cert.pem` | a pair on its way to a device |
//! | `former-certificates.pem` | certificates that other devices of the appliance may still have |
//! | `next-token/tokens.json`, `token` | a token on its way to a device |
//! | `former-tokens` | tokens, one a line, that other devices may still know |
//! | `next-update-key/update.key` | an update key on its way to a device |
//! | `former-update-keys.pem` | update keys that other devices may still have |
//!
//! The next set appears at once. It takes the place of the present one by two renames; what lies between them is seen
//! by the missing first file, and the next reader does the second. So whenever this is interrupted, the present and
//! the next secrets are known, and devices are reached with one or the other.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use rustix::fs::FlockOperation;

use super::store::{self, CERTIFICATE, PRIVATE_KEY, TOKEN, TOKENS, UPDATE_KEY, lock};

/// The most former certificates and tokens that are kept: devices that lag further behind are the owner's to know.
const MAX_FORMER: usize = 4;

/// The most former update keys. A device that has one of them cannot be reached by updates without it.
const MAX_FORMER_KEYS: usize = 256;

/// A kind of secret that can be exchanged.
pub(super) struct Exchange {
    /// The directory of the next set.
    next: &'static str,
    /// Its files. Whoever has the last one in place has the first one, too.
    files: &'static [&'static str],
    /// The file that keeps the last one's earlier content.
    former: &'static str,
    /// What divides two of them.
    end: &'static str,
    /// The most of them.
    most: usize,
    /// Set if the first of all is among these: see `authority`.
    keeps_first: bool,
}

/// Key and certificate.
pub(super) const CERTIFICATES: Exchange = Exchange {
    next: "next-certificate",
    files: &[PRIVATE_KEY, CERTIFICATE],
    former: "former-certificates.pem",
    end: "-----END CERTIFICATE-----\n",
    most: MAX_FORMER,
    keeps_first: false,
};

/// The admin token, hashed and in clear.
pub(super) const ADMIN_TOKENS: Exchange = Exchange {
    next: "next-token",
    files: &[TOKENS, TOKEN],
    former: "former-tokens",
    end: "\n",
    most: MAX_FORMER,
    keeps_first: false,
};

/// The key that signs updates.
pub(super) const UPDATE_KEYS: Exchange = Exchange {
    next: "next-update-key",
    files: &[UPDATE_KEY],
    former: "former-update-keys.pem",
    end: "-----END PRIVATE KEY-----\n",
    most: MAX_FORMER_KEYS,
    keeps_first: true,
};

/// Finishes what an interrupted run began, in `directory`.
pub(super) fn recover(directory: &Path) -> anyhow::Result<()> {
    for exchange in [CERTIFICATES, ADMIN_TOKENS] {
        let exists = |name: &&str| directory.join(exchange.next).join(name).exists();
        if exchange.files.last().is_some_and(exists) && !exchange.files.first().is_some_and(exists) {
            let _exclusive = lock(directory, FlockOperation::LockExclusive)?;
            exchange.put_in_place(directory)?;
        }
    }
    Ok(())
}

impl Exchange {
    /// The next set, in the order of its files.
    pub(super) fn next(&self, directory: &Path) -> anyhow::Result<Option<Vec<String>>> {
        let next = directory.join(self.next);
        // One without files is what a finished exchange left behind.
        if !next.join(self.last()).exists() {
            return Ok(None);
        }
        self.files
            .iter()
            .map(|name| store::read_file(&next.join(name)))
            .collect::<anyhow::Result<_>>()
            .map(Some)
    }

    fn last(&self) -> &'static str {
        self.files.last().copied().unwrap_or_default()
    }

    /// Stores the next set, unless there is one already: then that one stays.
    pub(super) fn begin(&self, directory: &Path, texts: &[&str]) -> anyhow::Result<()> {
        let files = self.files.iter().copied().zip(texts.iter().copied());
        store::write_directory(&directory.join(self.next), files)
    }

    /// Puts the next set in the place of the present one, which is kept as a former one.
    pub(super) fn finish(&self, directory: &Path) -> anyhow::Result<()> {
        let finishing = || format!("failed to store the new secrets in {}", directory.display());
        let _exclusive = lock(directory, FlockOperation::LockExclusive).with_context(finishing)?;
        let present = store::read_file(&directory.join(self.last())).with_context(finishing)?;
        let mut former = self.former(directory).with_context(finishing)?;
        former.retain(|text| *text != present);
        former.insert(0, present);
        if former.len() > self.most {
            let first = former.split_off(self.most).pop().filter(|_| self.keeps_first);
            if let (Some(first), Some(last)) = (first, former.last_mut()) {
                *last = first;
            }
        }
        store::write_file(&directory.join(self.former), &former.concat()).with_context(finishing)?;
        self.put_in_place(directory).with_context(finishing)
    }

    /// Earlier secrets, the newest first.
    pub(super) fn former(&self, directory: &Path) -> anyhow::Result<Vec<String>> {
        let path = directory.join(self.former);
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(store::read_file(&path)?.split_inclusive(self.end).map(str::to_owned).collect())
    }

    /// Forgets earlier secrets. Returns how many there were.
    pub(super) fn forget(&self, directory: &Path) -> anyhow::Result<usize> {
        let _exclusive = lock(directory, FlockOperation::LockExclusive)?;
        let count = self.former(directory)?.len();
        if count > 0 {
            fs::remove_file(directory.join(self.former))?;
        }
        Ok(count)
    }

    fn put_in_place(&self, directory: &Path) -> anyhow::Result<()> {
        let next = directory.join(self.next);
        for name in self.files {
            match fs::rename(next.join(name), directory.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => store::sync_directory(directory)?,
            }
        }
        match fs::remove_dir(&next) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(store::sync_directory(directory)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use krazy_boot::api::credentials::TokenFile;

    use super::*;
    use crate::provision::{Secrets, UpdateSigner, certificates, former_update_keys, load, provision};

    fn made() -> (tempfile::TempDir, Secrets) {
        let state = tempfile::tempdir().unwrap();
        let secrets = provision("weather", state.path()).unwrap();
        (state, secrets)
    }

    #[test]
    fn both_certificates_are_known_until_the_old_one_is_forgotten() {
        let (state, secrets) = made();
        let known = || certificates("weather", state.path()).unwrap();
        let old = secrets.pair().certificate().unwrap();
        assert_eq!(known(), std::slice::from_ref(&old));
        let next = secrets.make_next_pair("weather").unwrap();
        // An interrupted run goes on with the pair that a device may have already.
        assert_eq!(secrets.make_next_pair("weather").unwrap().pem(), next.pem());
        let new = next.certificate().unwrap();
        assert_eq!(known(), [old.clone(), new.clone()]);
        secrets.adopt_next_pair().unwrap();
        assert_eq!(known(), [new.clone(), old]);
        let secrets = load("weather", state.path()).unwrap();
        assert_eq!(secrets.pair().pem(), next.pem());
        assert_eq!(secrets.forget_former_certificates().unwrap(), 1);
        assert_eq!(secrets.forget_former_certificates().unwrap(), 0);
        assert_eq!(known(), [new]);
    }

    #[test]
    fn an_exchange_that_is_cut_anywhere_is_finished_by_the_next_reader() {
        let (state, secrets) = made();
        let directory = secrets.directory.clone();
        let (pair, token) = (secrets.make_next_pair("weather").unwrap(), secrets.make_next_token().unwrap());
        for (next, first) in [("next-certificate", PRIVATE_KEY), ("next-token", TOKENS)] {
            fs::rename(directory.join(next).join(first), directory.join(first)).unwrap();
        }
        let secrets = load("weather", state.path()).unwrap();
        assert_eq!(secrets.pair().pem(), pair.pem());
        assert_eq!(*secrets.token(), token);
        // Only the removal of the empty directory is left.
        fs::create_dir(directory.join("next-token")).unwrap();
        assert_eq!(secrets.next_token().unwrap(), None);
        let third = secrets.make_next_token().unwrap();
        secrets.adopt_next_token().unwrap();
        assert_eq!(*load("weather", state.path()).unwrap().token(), third);
    }

    #[test]
    fn earlier_update_keys_are_kept_for_devices_that_have_them() {
        let (state, secrets) = made();
        let public = |signer: &UpdateSigner| signer.public().unwrap().to_string();
        let former = || former_update_keys("weather", state.path()).unwrap();
        let first = public(secrets.update_key());
        assert!(former().is_empty() && secrets.next_update_key().unwrap().is_none());
        let next = public(&secrets.make_next_update_key().unwrap());
        assert_eq!(public(&secrets.make_next_update_key().unwrap()), next);
        secrets.adopt_next_update_key().unwrap();
        let secrets = load("weather", state.path()).unwrap();
        assert_eq!(public(secrets.update_key()), next);
        assert_eq!(former().iter().map(public).collect::<Vec<_>>(), [first]);
        let mode = fs::metadata(secrets.directory.join("former-update-keys.pem")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn the_newest_token_is_the_first_and_few_earlier_ones_are_kept() {
        let (state, secrets) = made();
        let mut made = vec![secrets.token().clone()];
        for _ in 0..6 {
            made.insert(0, secrets.make_next_token().unwrap());
            secrets.adopt_next_token().unwrap();
        }
        made.truncate(1 + MAX_FORMER);
        let secrets = load("weather", state.path()).unwrap();
        assert_eq!(secrets.tokens().unwrap(), made);
        let former = secrets.directory.join("former-tokens");
        assert_eq!(fs::metadata(former).unwrap().permissions().mode() & 0o777, 0o600);
        let hashed = fs::read(secrets.directory.join(TOKENS)).unwrap();
        assert!(TokenFile::from_json(&hashed).unwrap().find(secrets.token()).is_some());
    }
}
