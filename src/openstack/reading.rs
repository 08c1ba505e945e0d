//! Reading from Barbican with whatever session is in force: the refresher's way.
//!
//! It logs in if need be, and once more if the token is refused, unless that has been in
//! vain for the same thing a moment ago.

use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::catalog::Endpoint;
use super::container::{self, Container, ContainerError};
use super::error::Error;
use super::keystone::Session;
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
        let read = |session: Arc<Session>, deadline| async move {
            let endpoint = self.known_endpoint(&session)?;
            let (http, timing) = (&self.http, &self.timing);
            barbican::payload(http, timing, &session, &endpoint, id, deadline).await
        };
        self.with_session(Asked::Payload(id), read).await
    }

    /// What Barbican records about a key.
    ///
    /// # Errors
    /// Any but [`Error::NotAKey`].
    pub async fn record(&self, id: KeyId) -> Result<Metadata, Error> {
        let read = |session: Arc<Session>, deadline| async move {
            let endpoint = self.known_endpoint(&session)?;
            let (http, timing) = (&self.http, &self.timing);
            barbican::metadata(http, timing, &session, &endpoint, id, deadline).await
        };
        self.with_session(Asked::Metadata(id), read).await
    }

    /// Reads a container.
    ///
    /// # Errors
    /// Any.
    pub async fn container(&self, id: ContainerId) -> Result<Container, ContainerError> {
        let read = |session: Arc<Session>, deadline| async move {
            let endpoint = self.known_endpoint(&session)?;
            let (http, timing) = (&self.http, &self.timing);
            container::read(http, timing, &session, &endpoint, id, deadline).await
        };
        Ok(self.with_session(Asked::Container(id), read).await?)
    }

    async fn with_session<T, F>(
        &self,
        asked: Asked,
        read: impl Fn(Arc<Session>, Instant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.deadline();
        let session = self.sessions.session(&self.http, None, deadline).await?;
        let outcome = read(Arc::clone(&session), deadline).await;
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
            .session(&self.http, Some(&session), deadline)
            .await?;
        let outcome = read(session, deadline).await;
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

impl KeySource for OpenStack {
    async fn fetch(&self, id: KeyId) -> Result<Kek, FetchError> {
        Ok(self.key(id).await?)
    }

    async fn creator(&self, id: KeyId) -> Result<Option<String>, FetchError> {
        Ok(self.record(id).await?.creator_id)
    }

    async fn list(&self, id: ContainerId) -> Result<Listing, ListError> {
        Ok(self.container(id).await?.listing()?)
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
