//! The tokens of clients: those in use, and their file.

use std::sync::{Arc, Mutex, PoisonError};

use krazy_boot::api::credentials::{CredentialError, HashedToken, TokenFile};

use crate::device::CredentialStore;
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// The tokens that the device accepts.
pub(crate) struct Tokens {
    current: Mutex<Arc<TokenFile>>,
    /// Held from reading the tokens to replacing them, so that concurrent edits do not undo each other.
    editing: tokio::sync::Mutex<()>,
    store: CredentialStore,
}

impl Tokens {
    pub(crate) fn new(store: CredentialStore, current: TokenFile) -> Self {
        Tokens { current: Mutex::new(Arc::new(current)), editing: tokio::sync::Mutex::default(), store }
    }

    /// Returns the tokens in use.
    pub(crate) fn current(&self) -> Arc<TokenFile> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the tokens, on the disk first: tokens in use must also be in use after a restart.
    pub(crate) async fn edit(
        self: &Arc<Self>,
        edit: impl FnOnce(&mut Vec<HashedToken>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let _editing = self.editing.lock().await;
        let mut tokens = self.current().tokens().to_vec();
        edit(&mut tokens)?;
        let problem = |error: CredentialError| match error {
            CredentialError::NoAdmin => {
                Problem::new(Kind::NotNow, "this would leave no token with the role admin")
            }
            other => Problem::new(Kind::BadRequest, other.to_string()),
        };
        let json = TokenFile::new(tokens).and_then(|file| file.to_json()).map_err(problem)?;
        // Parsed like after a restart, which rejects a file that has become too long.
        let file = TokenFile::from_json(&json).map_err(problem)?;
        let this = Arc::clone(self);
        blocking(move || {
            this.store.write_tokens(&json).map_err(|error| Problem::from_io(&error, "the tokens"))?;
            *this.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
            Ok(())
        })
        .await
    }
}
