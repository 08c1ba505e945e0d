//! The current token: renewed before it expires, and by one login at a time.
//!
//! Used by `openstack`. Invariant: however many callers wait, at most one login is in
//! progress, and none shortly after a refusal by Keystone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use super::credential::{self, CredentialEnd, Ending};
use super::error::{Error, Problem, RequestError, RequestLine};
use super::excerpt::printable_url;
use super::http::Http;
use super::keystone::{Keystone, Session};
use super::retry::{Budget, Timing};
use crate::key_id::{ContainerId, KeyId};
use crate::mutation::{self, Mutation};

/// How long Keystone may take to say when the credential ends: the key matters more.
const CREDENTIAL_TIME: Duration = Duration::from_secs(2);

/// What a token is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// The payload of a key.
    Payload(KeyId),
    /// What is recorded about a key.
    Metadata(KeyId),
    /// A list of keys.
    Container(ContainerId),
}

/// Gives out sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    keystone: Keystone,
    timing: Timing,
    /// The holder of the permit may log in. Not a lock on the state: a caller
    /// who finds a good session never waits for somebody's login.
    turnstile: Semaphore,
    /// Held for moments only, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    refused: Option<Refused>,
    /// That for which Barbican has refused a new token as well as an old one, which
    /// is not the token's fault: no access rule of the credential fits, say.
    distrusted: BTreeSet<Asked>,
    /// What is known about the end of the application credential.
    ending: Ending,
}

#[derive(Debug)]
struct Refused {
    last: Arc<RequestError>,
    until: Instant,
    /// In a row.
    count: u32,
}

impl Sessions {
    pub(super) fn new(keystone: Keystone, timing: Timing) -> Self {
        Self {
            keystone,
            timing,
            turnstile: Semaphore::new(
                1 + usize::from(mutation::active(Mutation::LoginsInParallel)),
            ),
            state: Mutex::default(),
        }
    }

    pub(super) fn keystone(&self) -> &Keystone {
        &self.keystone
    }

    /// A session other than `stale`, which a server has refused: the one in
    /// force, or a new one.
    pub(super) async fn session(
        &self,
        http: &Http,
        stale: Option<&Arc<Session>>,
        budget: Budget,
    ) -> Result<Arc<Session>, Error> {
        match self.renewed(http, stale, budget).await {
            Ok(session) => Ok(session),
            // A login that fails before the old token has expired does no harm.
            Err(error) => self.unended(stale).ok_or(error),
        }
    }

    /// Makes the next caller log in again.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        let mut state = self.state();
        if state
            .session
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, session))
        {
            state.session = None;
        }
    }

    /// Whether a new login may help, now that Barbican has answered 401 for `asked`.
    pub(super) fn may_be_stale(&self, session: &Session, asked: &Asked) -> bool {
        let old = session.since.elapsed() >= self.timing.distrust;
        old || !self.state().distrusted.contains(asked)
    }

    /// Barbican refuses every token for `asked`, even a new one.
    pub(super) fn distrust(&self, asked: Asked) {
        self.state().distrusted.insert(asked);
    }

    /// Barbican has taken the token for `asked`.
    pub(super) fn trust(&self, asked: &Asked) {
        self.state().distrusted.remove(asked);
    }

    async fn renewed(
        &self,
        http: &Http,
        stale: Option<&Arc<Session>>,
        budget: Budget,
    ) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.held(stale)? {
            return Ok(session);
        }
        let waiting = tokio::time::timeout_at(budget.deadline, self.turnstile.acquire()).await;
        let Ok(_permit) = waiting else {
            return Err(Error::Unavailable(RequestError {
                asked: RequestLine {
                    method: http::Method::POST,
                    url: printable_url(self.keystone.url()),
                },
                problem: Problem::Timeout {
                    limit: self.timing.operation,
                },
            }));
        };
        // Another caller may have logged in while we waited.
        if let Some(session) = self.held(stale)? {
            return Ok(session);
        }
        let budget = match self.unended(stale) {
            // Leave time for the request that this is about.
            Some(_) => budget.within(Instant::now() + self.timing.connect),
            None => budget,
        };
        let result = self.keystone.login(http, &self.timing, budget).await;
        let session = self.note(result)?;
        if let Some(end) = session.account().expires_at {
            http.instruments().token_until(end.as_second());
        }
        let asks = self.state().ending.is_unknown() && Keystone::may_ask_for_end(session.account());
        let told = if asks {
            let limit = budget.within(Instant::now() + CREDENTIAL_TIME);
            self.keystone.credential_end(http, &session, limit).await
        } else {
            CredentialEnd::Unknown
        };
        let now = self.timing.date();
        let (end, due) = {
            let ending = &mut self.state().ending;
            ending.note(session.account(), told);
            (ending.end().at(), ending.due(now, Instant::now()))
        };
        http.instruments()
            .credential_until(end.map(Timestamp::as_second));
        if let (true, Some(end)) = (due, end) {
            warn!(
                credential_end = %end,
                "the application credential expires in {}: create a new one and write it to the \
                 cloud-config before that; it is used without a restart",
                credential::time_left(end, now)
            );
        }
        Ok(session)
    }

    /// When the application credential ends, as far as that is known.
    pub(super) fn credential_end(&self) -> CredentialEnd {
        self.state().ending.end()
    }

    /// The current session, if it needs no renewal; an error while Keystone is
    /// to be left alone.
    fn held(&self, stale: Option<&Arc<Session>>) -> Result<Option<Arc<Session>>, Error> {
        let now = Instant::now();
        let inner = self.state();
        let fresh = inner
            .session
            .as_ref()
            .filter(|session| now < session.renew_at && !is(stale, session));
        if let Some(session) = fresh {
            return Ok(Some(Arc::clone(session)));
        }
        match &inner.refused {
            Some(refused)
                if now < refused.until && !mutation::active(Mutation::RefusalIsForgotten) =>
            {
                Err(Error::Login {
                    refusal: Arc::clone(&refused.last),
                    again_in: refused.until - now,
                })
            }
            _ => Ok(None),
        }
    }

    /// The current session, if its token has not ended.
    fn unended(&self, stale: Option<&Arc<Session>>) -> Option<Arc<Session>> {
        let now = Instant::now();
        let inner = self.state();
        let held = inner.session.as_ref();
        held.filter(|session| now < session.ends_at && !is(stale, session))
            .cloned()
    }

    fn note(&self, result: Result<Session, RequestError>) -> Result<Arc<Session>, Error> {
        let mut state = self.state();
        let error = match result {
            Ok(session) => {
                let session = Arc::new(session);
                state.session = Some(Arc::clone(&session));
                state.refused = None;
                return Ok(session);
            }
            Err(error) => error,
        };
        let refusal = Arc::new(refusal(error).map_err(Error::Unavailable)?);
        let before = state.refused.as_ref().map_or(0, |refused| refused.count);
        let count = before.saturating_add(1);
        let again_in = self.timing.refused_for(count);
        state.refused = Some(Refused {
            last: Arc::clone(&refusal),
            until: Instant::now() + again_in,
            count,
        });
        Err(Error::Login { refusal, again_in })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while holding it, and each state is whole by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is(stale: Option<&Arc<Session>>, session: &Arc<Session>) -> bool {
    stale.is_some_and(|stale| Arc::ptr_eq(stale, session))
}

/// Whether Keystone itself says no: 400, 401, 403, 404 and their like.
fn refusal(error: RequestError) -> Result<RequestError, RequestError> {
    let Problem::Status { status, .. } = error.problem else {
        return Err(error);
    };
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(error),
        _ if status.is_client_error() => Ok(error),
        _ => Err(error),
    }
}
