//! The certificates that connections present, as the back has sent them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use krazy_boot::api::certificate::TRIAL_SERVER_NAME;
use krazy_boot::digest::Sha256Hash;
use rustls::ServerConfig;

use crate::identity::certificate::{PairError, hash, server};
use crate::transport::{Certificates, Pem};

/// The certificates to present.
pub(super) struct Presented {
    tls12: bool,
    state: Mutex<State>,
}

struct State {
    current: Arc<Usable>,
    /// The pair on trial, and the end of its trial.
    trial: Option<(Arc<Usable>, Instant)>,
}

/// A pair that TLS can use.
pub(super) struct Usable {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) sha256: Sha256Hash,
    pem: Pem,
}

impl Presented {
    pub(super) fn new(certificates: Certificates, tls12: bool) -> Result<Self, PairError> {
        let state = State::new(certificates, &[], tls12)?;
        Ok(Presented { tls12, state: Mutex::new(state) })
    }

    /// Presents these from now on. Connections go on with what they have.
    pub(super) fn install(&self, certificates: Certificates) -> Result<(), PairError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let on_trial = state.trial.iter().map(|(pair, _)| Arc::clone(pair));
        let known: Vec<_> = on_trial.chain([Arc::clone(&state.current)]).collect();
        *state = State::new(certificates, &known, self.tls12)?;
        Ok(())
    }

    /// Returns the pair for a client that asks for `server_name`.
    pub(super) fn choose(&self, server_name: Option<&str>) -> Arc<Usable> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.trial.as_ref().is_some_and(|(_, deadline)| *deadline <= Instant::now()) {
            state.trial = None;
        }
        match &state.trial {
            Some((pair, _)) if server_name == Some(TRIAL_SERVER_NAME) => Arc::clone(pair),
            _ => Arc::clone(&state.current),
        }
    }
}

impl State {
    /// Pairs among `known` are used further, with their sessions.
    fn new(certificates: Certificates, known: &[Arc<Usable>], tls12: bool) -> Result<Self, PairError> {
        let usable = |pem: Pem| match known.iter().find(|usable| usable.pem == pem) {
            Some(usable) => Ok(Arc::clone(usable)),
            None => server(&pem, tls12).map(|(tls, own)| Arc::new(Usable { tls, sha256: hash(&own), pem })),
        };
        let Certificates { current, trial } = certificates;
        let trial = trial.map(|(pem, remaining)| {
            let deadline = Instant::now().checked_add(Duration::from_millis(remaining));
            usable(pem).map(|pair| deadline.map(|deadline| (pair, deadline)))
        });
        Ok(State { current: usable(current)?, trial: trial.transpose()?.flatten() })
    }
}
