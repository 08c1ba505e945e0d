//! Reading from Barbican with whatever session is in force: the refresher's way.
//!
//! It logs in if need be, and once more if the token is refused, unless that has been in
//! vain for the same thing a moment ago.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::catalog::Endpoint;
use super::container::{self, Container, ContainerError};
use super::error::Error;
use super::keystone::Session;
use super::retry::Budget;
use super::session::Asked;
use super::{Metadata, OpenStack, barbican};
use crate::key_id::{ContainerId, KeyId};
use crate::keyring::{FetchError, KeySource, ListError, Listing};
use crate::secret::Kek;

impl OpenStack {
    /// Downloads a key.
    ///
    /// # Errors
    /// Any.
    pub async fn key(&self, id: KeyId) -> Result<Kek, Error> {
        self.key_within(id, self.budget()).await
    }

    async fn key_within(&self, id: KeyId, budget: Budget) -> Result<Kek, Error> {
        let read = |session: Arc<Session>, endpoint| async move {
            let (http, timing) = (&self.http, &self.timing);
            barbican::payload(http, timing, &session, &endpoint, id, budget).await
        };
        self.with_session(Asked::Payload(id), budget, read).await
    }

    async fn record_within(&self, id: KeyId, budget: Budget) -> Result<Metadata, Error> {
        let read = |session: Arc<Session>, endpoint| async move {
            let (http, timing) = (&self.http, &self.timing);
            barbican::metadata(http, timing, &session, &endpoint, id, budget).await
        };
        self.with_session(Asked::Metadata(id), budget, read).await
    }

    async fn container_within(&self, id: ContainerId, budget: Budget) -> Result<Container, Error> {
        let read = |session: Arc<Session>, endpoint| async move {
            let (http, timing) = (&self.http, &self.timing);
            container::read(http, timing, &session, &endpoint, id, budget).await
        };
        self.with_session(Asked::Container(id), budget, read).await
    }

    async fn with_session<T, F>(
        &self,
        asked: Asked,
        budget: Budget,
        read: impl Fn(Arc<Session>, Endpoint) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let session = self.sessions.session(&self.http, None, budget).await?;
        let endpoint = self.known_endpoint(&session)?;
        let outcome = read(Arc::clone(&session), endpoint).await;
        match is_token_taken(&outcome) {
            Some(false) if self.sessions.may_be_stale(&session, &asked) => {}
            Some(true) => {
                self.sessions.trust(&asked);
                return outcome;
            }
            _ => return outcome,
        }
        let session = self
            .sessions
            .session(&self.http, Some(&session), budget)
            .await?;
        let endpoint = self.known_endpoint(&session)?;
        let outcome = read(session, endpoint).await;
        if is_token_taken(&outcome) == Some(false) {
            self.sessions.distrust(asked);
        }
        outcome
    }

    fn known_endpoint(&self, session: &Arc<Session>) -> Result<Endpoint, Error> {
        self.endpoint(session).inspect_err(|_| {
            // The catalog comes with the token only: look again next time.
            self.sessions.forget(session);
        })
    }
}

impl OpenStack {
    /// Asks, urgently as long as nobody answers, and notes whether somebody has.
    async fn noting_silence<T, F>(&self, ask: impl FnOnce(Budget) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let urgent = !self.answered.load(Ordering::Relaxed);
        let outcome = ask(Budget {
            urgent,
            ..self.budget()
        })
        .await;
        let silence = matches!(&outcome, Err(error) if error.is_silence());
        self.answered.store(!silence, Ordering::Relaxed);
        outcome
    }
}

impl KeySource for OpenStack {
    async fn fetch(&self, id: KeyId) -> Result<Kek, FetchError> {
        let ask = |budget| self.key_within(id, budget);
        Ok(self.noting_silence(ask).await?)
    }

    async fn creator(&self, id: KeyId) -> Result<Option<String>, FetchError> {
        let ask = |budget| self.record_within(id, budget);
        Ok(self.noting_silence(ask).await?.creator_id)
    }

    async fn list(&self, id: ContainerId) -> Result<Listing, ListError> {
        let ask = |budget| self.container_within(id, budget);
        let container = self.noting_silence(ask).await;
        let container = container.map_err(ContainerError::from)?;
        Ok(container.listing()?)
    }
}

/// What Barbican thinks of the token; `None` when it has not come to that.
fn is_token_taken<T>(outcome: &Result<T, Error>) -> Option<bool> {
    match outcome {
        Err(Error::Denied { refusal }) => {
            Some(refusal.problem.status() != Some(StatusCode::UNAUTHORIZED))
        }
        Ok(_) | Err(Error::NotFound(_) | Error::NotAKey(_) | Error::NotBytes(_)) => Some(true),
        Err(Error::Unavailable(_) | Error::Login { .. } | Error::Endpoint(_)) => None,
    }
}
