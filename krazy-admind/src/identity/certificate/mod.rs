//! The certificates of the device: the one in use, and one on trial.
//!
//! The server name in the client's first message selects the certificate of a connection; see
//! [`krazy_boot::api::certificate`]. A faulty pair on trial therefore affects only clients that ask for it. The front
//! makes that choice (`net::certificates`); it is sent both pairs.
//!
//! # Dates
//!
//! Clients that pin a certificate ignore its dates, and a device serves with an expired certificate, too: its clock may be wrong, and
//! it may have been switched off for years. Only a new certificate that has expired is rejected, because browsers would
//! reject it. One that is not valid yet is accepted: the clock of the device may be behind.

mod pair;
mod validity;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use krazy_boot::api::certificate::{CertificateStatus, CertificateTrial, TRIAL_SERVER_NAME};
use krazy_boot::digest::Sha256Hash;
use time::OffsetDateTime;

pub use pair::PairError;
pub(crate) use pair::{Pair, hash, server};
#[cfg(any(test, fuzzing))]
pub(crate) use validity::{not_after, rfc3339};

use crate::device::CredentialStore;
use crate::problem::{Kind, Problem};
use crate::transport;

/// The certificates that the front presents, their files, and the rules of a trial.
pub(crate) struct Certificates {
    store: CredentialStore,
    tls12: bool,
    trial_time: Duration,
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
    deadline: Instant,
}

impl Certificates {
    /// The certificates of a device that uses `current`. A trial ends after `trial_time`.
    pub(crate) fn new(store: CredentialStore, tls12: bool, trial_time: Duration, current: Pair) -> Self {
        let presented = Presented { current: Arc::new(current), trial: None };
        Certificates { store, tls12, trial_time, presented: Mutex::new(presented) }
    }

    /// Returns the pairs to present.
    pub(crate) fn to_present(&self) -> transport::Certificates {
        self.presented(|Presented { current, trial }| transport::Certificates {
            current: current.pem.clone(),
            trial: trial.as_ref().map(|trial| {
                let remaining = trial.deadline.saturating_duration_since(Instant::now());
                (trial.pair.pem.clone(), remaining.as_millis().try_into().unwrap_or(u64::MAX))
            }),
        })
    }

    pub(crate) fn status(&self) -> CertificateStatus {
        self.presented(|Presented { current, trial }| CertificateStatus {
            sha256: current.sha256,
            not_after: current.not_after.map(validity::rfc3339),
            trial: trial.as_ref().map(|trial| CertificateTrial {
                sha256: trial.pair.sha256,
                remaining: trial.deadline.saturating_duration_since(Instant::now()).as_secs(),
            }),
        })
    }

    /// Puts the key and certificate in `pem` on trial, instead of an earlier pair on trial.
    pub(crate) fn start_trial(&self, pem: Vec<u8>) -> Result<(), Problem> {
        let rejected = |why: &dyn std::fmt::Display| {
            Problem::new(Kind::BadRequest, format!("the key and certificate cannot be used: {why}"))
        };
        let pair = Pair::from_pem(&pem, &pem, self.tls12).map_err(|error| rejected(&error))?;
        let not_after = pair.not_after.ok_or_else(|| rejected(&"the validity dates are unreadable"))?;
        if not_after < OffsetDateTime::now_utc() {
            return Err(rejected(&format_args!(
                "the certificate expired on {}",
                validity::rfc3339(not_after)
            )));
        }
        let deadline = Instant::now() + self.trial_time;
        let trial = Trial { pair: Arc::new(pair), pem: pem.into(), deadline };
        self.presented(|presented| presented.trial = Some(trial));
        Ok(())
    }

    /// Confirms the pair on trial, for a client whose connection presented `seen`. Repeating this has no effect. Blocks.
    pub(crate) fn confirm(&self, seen: Sha256Hash) -> Result<(), Problem> {
        let trial = self.presented(|presented| presented.trial.clone());
        let Some(trial) = trial.filter(|trial| trial.pair.sha256 == seen) else {
            let (current, on_trial) =
                self.presented(|presented| (presented.current.sha256, presented.trial.is_some()));
            return match (current == seen, on_trial) {
                (true, false) => Ok(()),
                (_, true) => Err(Problem::new(
                    Kind::NotNow,
                    format!(
                        "connect to {TRIAL_SERVER_NAME} to confirm: that shows that the new certificate works"
                    ),
                )),
                (false, false) => Err(Problem::new(Kind::NotNow, "the trial of this certificate has ended")),
            };
        };
        // Stored first: the pair in use must survive a restart.
        self.store
            .write_confirmed(&trial.pem)
            .map_err(|error| Problem::from_io(&error, "the certificate"))?;
        self.presented(|presented| {
            presented.current = Arc::clone(&trial.pair);
            presented.trial = presented.trial.take().filter(|newer| newer.pair.sha256 != seen);
        });
        install(&self.store, &trial.pem);
        Ok(())
    }

    fn presented<T>(&self, act: impl FnOnce(&mut Presented) -> T) -> T {
        let mut presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        if presented.trial.as_ref().is_some_and(|trial| trial.deadline <= Instant::now()) {
            presented.trial = None;
        }
        act(&mut presented)
    }
}

/// Returns a confirmed pair that a power cut kept from its usual files, and moves it there. Returns `None` if there is
/// none.
pub(super) fn finish_confirmation(store: &CredentialStore, tls12: bool) -> Option<Pair> {
    let path = store.confirmed_path();
    let pem = match store.read_confirmed() {
        Ok(pem) => pem?,
        Err(error) => {
            crate::log::write(format_args!(
                "failed to read {}: {error}; using the previous certificate",
                path.display()
            ));
            return None;
        }
    };
    match Pair::from_pem(&pem, &pem, tls12) {
        Ok(pair) => {
            install(store, &pem);
            Some(pair)
        }
        Err(error) => {
            crate::log::write(format_args!(
                "{} is not usable: {error}; using the previous certificate",
                path.display()
            ));
            None
        }
    }
}

/// Moves a confirmed pair to its usual files. A failure is only logged, for the next start tries again.
fn install(store: &CredentialStore, pem: &[u8]) {
    if let Err(error) = store.install_confirmed(pem) {
        crate::log::write(format_args!(
            "failed to store the new certificate: {error}; the next start tries again"
        ));
    }
}
