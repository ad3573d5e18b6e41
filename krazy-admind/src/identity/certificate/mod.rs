//! The certificates a device presents: the one in use, and beside it one on trial.
//!
//! What is presented is decided per connection, by the server name in the client's first message; see
//! [`krazy_boot::api::certificate`]. So a wrong pair on trial is seen by nobody who has not asked for it.
//!
//! # On the disk
//!
//! A confirmed pair is written as one file, [`CONFIRMED`], which appears at once or not at all: from then on it counts.
//! Key and certificate in their usual places follow, and then the file goes. A start that finds it does the rest.
//!
//! # Dates
//!
//! Clients that pin a certificate do not look at its dates, and a device serves with whatever it has: its clock may be
//! wrong, and it may have lain in a drawer for years. Only a new certificate that has expired already is refused,
//! because browsers would refuse it; one that is not valid yet may be right, and the clock behind.

mod pair;
mod validity;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use krazy_boot::api::certificate::{CertificateStatus, CertificateTrial, TRIAL_SERVER_NAME};
use krazy_boot::api::credentials::{CERTIFICATE, MAX_FILE, PRIVATE_KEY};
use krazy_boot::digest::Sha256Hash;
use krazy_init::linux::kernel_clock;

pub(crate) use pair::Pair;
pub use pair::PairError;

use crate::device::durable_file;
use crate::problem::{Kind, Problem};

/// A pair that was confirmed but is not yet in its place, relative to `/data`.
const CONFIRMED: &str = "krazy/tls/confirmed.pem";

/// What a device presents; see the module.
pub(crate) struct Certificates {
    data: PathBuf,
    tls12: bool,
    patience: Duration,
    presented: Mutex<Presented>,
}

struct Presented {
    current: Arc<Pair>,
    trial: Option<Trial>,
}

#[derive(Clone)]
struct Trial {
    pair: Arc<Pair>,
    pem: Arc<[u8]>,
    end: Instant,
}

impl Certificates {
    /// With `current` in use, in the places below `data`. A trial lasts as long as `patience`.
    pub(crate) fn new(data: PathBuf, tls12: bool, patience: Duration, current: Pair) -> Self {
        let presented = Presented { current: Arc::new(current), trial: None };
        Certificates { data, tls12, patience, presented: Mutex::new(presented) }
    }

    /// What a client gets that asks for `server_name`.
    pub(crate) fn choose(&self, server_name: Option<&str>) -> Arc<Pair> {
        self.presented(|presented| match &presented.trial {
            Some(trial) if server_name == Some(TRIAL_SERVER_NAME) => Arc::clone(&trial.pair),
            _ => Arc::clone(&presented.current),
        })
    }

    pub(crate) fn status(&self) -> CertificateStatus {
        self.presented(|Presented { current, trial }| CertificateStatus {
            sha256: current.sha256,
            not_after: current.not_after.clone(),
            trial: trial.as_ref().map(|trial| CertificateTrial {
                sha256: trial.pair.sha256,
                remaining: trial.end.saturating_duration_since(Instant::now()).as_secs(),
            }),
        })
    }

    /// Puts the key and certificate in `pem` on trial, in the place of those that were on trial before.
    pub(crate) fn try_out(&self, pem: Vec<u8>) -> Result<(), Problem> {
        let refused =
            |why: String| Problem::new(Kind::BadRequest, format!("not a pair to serve with: {why}"));
        let pair = Pair::from_pem(&pem, &pem, self.tls12).map_err(|error| refused(error.to_string()))?;
        let not_after =
            pair.not_after.as_deref().ok_or_else(|| refused("its dates cannot be read".into()))?;
        // Both texts are of one form, so that their order is that of the moments.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if not_after < kernel_clock::rfc3339(now).as_str() {
            return Err(refused(format!("it expired on {not_after}")));
        }
        let trial = Trial { pair: Arc::new(pair), pem: pem.into(), end: Instant::now() + self.patience };
        self.presented(|presented| presented.trial = Some(trial));
        Ok(())
    }

    /// Ends the trial well, for a client whose connection presented `seen`. The same again changes nothing. Blocks.
    pub(crate) fn confirm(&self, seen: Sha256Hash) -> Result<(), Problem> {
        let trial = self.presented(|presented| presented.trial.clone());
        let Some(trial) = trial.filter(|trial| trial.pair.sha256 == seen) else {
            let (current, on_trial) =
                self.presented(|presented| (presented.current.sha256, presented.trial.is_some()));
            return match (current == seen, on_trial) {
                (true, false) => Ok(()),
                (_, true) => Err(Problem::new(
                    Kind::NotNow,
                    format!("only a connection to {TRIAL_SERVER_NAME} shows that the new certificate works"),
                )),
                (false, false) => Err(Problem::new(Kind::NotNow, "the trial of this certificate is over")),
            };
        };
        let path = self.data.join(CONFIRMED);
        durable_file::replace(&path, &trial.pem, 0o600)
            .map_err(|error| Problem::from_io(&error, "the certificate"))?;
        self.presented(|presented| {
            presented.current = Arc::clone(&trial.pair);
            presented.trial = presented.trial.take().filter(|later| later.pair.sha256 != seen);
        });
        put_in_place(&self.data, &trial.pem);
        Ok(())
    }

    fn presented<T>(&self, act: impl FnOnce(&mut Presented) -> T) -> T {
        let mut presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        if presented.trial.as_ref().is_some_and(|trial| trial.end <= Instant::now()) {
            presented.trial = None;
        }
        act(&mut presented)
    }
}

/// The confirmed pair that a power cut kept from its place, now put there; `None` if there is none.
pub(crate) fn finish_confirmation(data: &Path, tls12: bool) -> Option<Pair> {
    let path = data.join(CONFIRMED);
    let pem = match durable_file::read(&path, MAX_FILE as u64) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            crate::log::write(format_args!(
                "failed to read {}: {error}; the certificate before it is used",
                path.display()
            ));
            return None;
        }
    };
    match Pair::from_pem(&pem, &pem, tls12) {
        Ok(pair) => {
            put_in_place(data, &pem);
            Some(pair)
        }
        Err(error) => {
            crate::log::write(format_args!(
                "{} is not usable: {error}; the certificate before it is used",
                path.display()
            ));
            None
        }
    }
}

/// Stores a confirmed pair where the host's are, and removes [`CONFIRMED`]. A failure only leaves that file, which
/// counts at the next start.
fn put_in_place(data: &Path, pem: &[u8]) {
    let confirmed = data.join(CONFIRMED);
    let stored = durable_file::replace(&data.join(PRIVATE_KEY), &part(pem, false), 0o600)
        .and_then(|()| durable_file::replace(&data.join(CERTIFICATE), &part(pem, true), 0o644))
        .and_then(|()| fs::remove_file(&confirmed))
        .and_then(|()| confirmed.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()));
    if let Err(error) = stored {
        crate::log::write(format_args!(
            "failed to store the new certificate: {error}; the next start tries again"
        ));
    }
}

/// The certificates in `pem`, or else what is in it besides them: the key. Certificates may be read by everybody.
fn part(pem: &[u8], certificates: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let (mut inside, mut kept) = (false, String::new());
    for line in text.lines() {
        inside |= line.starts_with("-----BEGIN CERTIFICATE-----");
        if inside == certificates {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= !line.starts_with("-----END CERTIFICATE-----");
    }
    kept.into_bytes()
}
