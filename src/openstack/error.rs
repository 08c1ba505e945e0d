//! What can go wrong between here and OpenStack, and what to do about it.
//!
//! [`Problem`] is one request's, [`Error`] is an operation's: its variant is
//! what the caller does next. Invariant: no text here contains a secret, a user
//! name or password of a URL, or anything unprintable from a server.

mod problem;
mod tls_problem;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use super::catalog::EndpointError;
use crate::keyring::{FetchError, UpstreamError};
use crate::secret::KekLengthError;

pub use problem::{Problem, ReplyError};
pub use tls_problem::TlsProblem;

/// Why an operation failed; each variant needs a different next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no answer, or no valid one: retry later.
    #[error("{0}")]
    Unavailable(RequestError),
    /// Keystone refuses the credentials: fix them. The next login waits for some time,
    /// because repeated failures can lock the account.
    #[error("{refusal}; {LOGIN_HINT}; the next login is in {} s", .again_in.as_secs())]
    Login {
        /// Keystone's last answer.
        refusal: Arc<RequestError>,
        /// How long the next login waits.
        again_in: Duration,
    },
    /// The catalog does not say where Barbican is: fix region or interface.
    #[error("{0}")]
    Endpoint(EndpointError),
    /// Barbican knows us and refuses this key: fix roles or access rules.
    #[error("{refusal}; {}", denied_hint(.refusal))]
    Denied {
        /// Barbican's answer.
        refusal: RequestError,
    },
    /// Barbican has no such secret: it was deleted, has expired, never was
    /// there, or has no payload.
    #[error("{0}; {NOT_FOUND_HINT}")]
    NotFound(RequestError),
    /// The payload is not an AES key.
    #[error(transparent)]
    NotAKey(#[from] KekLengthError),
    /// Barbican cannot give out the payload as bytes, which is what a key is.
    #[error("{0}; the content type of the secret's payload is not application/octet-stream")]
    NotBytes(RequestError),
}

impl Error {
    /// Whether nobody has answered, or something in the place of a server that is down.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(request) if request.problem.is_silence())
    }

    /// How long the server has asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(RequestError {
                problem:
                    Problem::Status {
                        status,
                        retry_after,
                        ..
                    },
                ..
            }) => {
                let asked = *status == StatusCode::TOO_MANY_REQUESTS;
                retry_after.or(asked.then_some(THROTTLED))
            }
            _ => None,
        }
    }
}

/// How long a server is left alone that has enough of us and names no time.
const THROTTLED: Duration = Duration::from_secs(5);

const LOGIN_HINT: &str = "check the user, its password and the domains of user and project, or the \
     application credential and its secret, or the token, and whether it has expired";

const NOT_FOUND_HINT: &str = "the secret was deleted, has expired, has no payload, or is in \
                              another region: `openstack secret list` shows the existing secrets";

fn denied_hint(refusal: &RequestError) -> &'static str {
    match refusal.problem.status() {
        Some(StatusCode::FORBIDDEN) => {
            "the user needs the role `member` in the secret's project (`creator` or `observer` if \
             Barbican uses its legacy policies), or a read ACL on the secret: `openstack acl user \
             add --user USER_ID SECRET_HREF`"
        }
        _ => {
            "for a new token this means that the access rules of the application credential do not \
             allow GET of this path for the service `key-manager`, or that Barbican cannot \
             validate tokens with Keystone"
        }
    }
}

/// For errors that are not about what was asked for.
impl From<Error> for UpstreamError {
    fn from(error: Error) -> Self {
        match error {
            Error::Login { again_in, .. } => Self::Login {
                again_in,
                cause: error.into(),
            },
            _ if error.is_silence() => Self::Unanswered(error.into()),
            // Retrying soon does not help, but the login itself works, and a catalog
            // may be corrected at any time.
            _ => Self::Unavailable {
                retry_after: error.retry_after(),
                cause: error.into(),
            },
        }
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::Endpoint(_) | Error::Login { .. } => {
                Self::Upstream(error.into())
            }
            Error::Denied { .. } => Self::Denied(error.into()),
            Error::NotFound(_) => Self::NotFound(error.into()),
            Error::NotAKey(_) | Error::NotBytes(_) => Self::NotAKey(error.into()),
        }
    }
}

/// One request that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[error("{asked}: {problem}")]
pub struct RequestError {
    /// What was asked of whom.
    pub asked: RequestLine,
    /// What came instead of the answer.
    pub problem: Problem,
}

/// A request as it may be shown: no user name, no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// `GET` or `POST`.
    pub method: Method,
    /// Scheme, host, port and path.
    pub url: String,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

#[cfg(test)]
impl RequestLine {
    pub(super) fn for_tests() -> Self {
        Self {
            method: Method::GET,
            url: "http://keystone:5000/v3".to_owned(),
        }
    }
}
