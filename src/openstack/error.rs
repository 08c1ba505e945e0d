//! What can go wrong between here and OpenStack, and what to do about it.
//!
//! [`Problem`] is one request's, [`Error`] is an operation's: its variant is
//! what the caller does next. Invariant: no text here contains a secret, a user
//! name or password of a URL, or anything unprintable from a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use super::catalog::EndpointError;
use super::excerpt::Excerpt;
use crate::instruments::Outcome;
use crate::keyring::FetchError;
use crate::secret::KekLengthError;

/// Why an operation failed; each variant is a different thing to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not sensibly: try again later.
    #[error("{0}")]
    Unavailable(RequestError),
    /// Keystone refuses the credentials: mend them. It is not asked again before
    /// some time has passed, because repeated failures can lock the account.
    #[error("{refusal}; {LOGIN_HINT}; Keystone is asked again in {} s", .again_in.as_secs())]
    Login {
        /// Keystone's last answer.
        refusal: Arc<RequestError>,
        /// How long it will not be asked.
        again_in: Duration,
    },
    /// The catalog does not say where Barbican is: mend region or interface.
    #[error("{0}")]
    Endpoint(EndpointError),
    /// Barbican knows us and refuses this key: mend roles or access rules.
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
}

impl Error {
    /// How long the server has asked to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(RequestError {
                problem: Problem::Status { retry_after, .. },
                ..
            }) => *retry_after,
            _ => None,
        }
    }
}

const LOGIN_HINT: &str = "check the user, its password and the domains of user and project, or the \
     application credential and its secret, or the token, and whether it has expired";

const NOT_FOUND_HINT: &str = "the secret was deleted, has expired, has no payload, or is in another \
     region: `openstack secret list` shows what there is";

fn denied_hint(refusal: &RequestError) -> &'static str {
    match refusal.problem.status() {
        Some(StatusCode::FORBIDDEN) => {
            "the user needs the role `member` in the secret's project (`creator` or `observer` where \
             Barbican uses its legacy policies), or a read ACL on the secret: `openstack acl user \
             add --user USER_ID SECRET_HREF`"
        }
        _ => {
            "for a fresh token this means that the access rules of the application credential do \
             not allow GET of this path for the service `key-manager`, or that Barbican cannot ask \
             Keystone about tokens"
        }
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        match error {
            // Neither is cured by asking again soon, but the login itself works,
            // and a catalog is mended without us being told.
            Error::Unavailable(_) | Error::Endpoint(_) => Self::Unavailable {
                retry_after: error.retry_after(),
                cause: error.into(),
            },
            Error::Login { again_in, .. } => Self::Login {
                again_in,
                cause: error.into(),
            },
            Error::Denied { .. } => Self::Denied(error.into()),
            Error::NotFound(_) => Self::NotFound(error.into()),
            Error::NotAKey(length) => Self::NotAKey(length),
        }
    }
}

/// One request that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[error("{asked}: {problem}")]
pub struct RequestError {
    /// What was asked of whom.
    pub asked: Asked,
    /// What came instead of the answer.
    pub problem: Problem,
}

/// A request as it may be shown: no user name, no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: Method,
    /// Scheme, host, port and path.
    pub url: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

#[cfg(test)]
impl Asked {
    pub(super) fn for_tests() -> Self {
        Self {
            method: Method::GET,
            url: "http://keystone:5000/v3".to_owned(),
        }
    }
}

/// What came instead of an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Problem {
    /// The name has no address.
    #[error("the name {host} cannot be resolved: {cause}")]
    Name {
        /// The server's or the proxy's name.
        host: String,
        /// The resolver's words.
        cause: String,
    },
    /// No address in time.
    #[error("looking up the name {host} took longer than {:.1} s", .limit.as_secs_f64())]
    NameTimeout {
        /// The server's or the proxy's name.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The proxy does not let us through.
    #[error("the proxy {proxy} does not open a connection: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it did.
        reason: String,
    },
    /// TLS: the other side is not who it should be, or does not speak TLS.
    #[error("{0}")]
    Tls(TlsProblem),
    /// No connection in time.
    #[error("connecting took longer than {:.1} s (name, proxy and TLS included)", .limit.as_secs_f64())]
    ConnectTimeout {
        /// How long was waited.
        limit: Duration,
    },
    /// No answer in time.
    #[error("no whole answer within {:.1} s", .limit.as_secs_f64())]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(String),
    /// A status other than success.
    #[error("{status}{}", said(.says.as_ref()))]
    Status {
        /// The status.
        status: StatusCode,
        /// The server's own words.
        says: Option<Excerpt>,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// Whether the body is an error as Keystone writes them.
        keystones: bool,
    },
    /// A refusal where Keystone should be, in another form than its own.
    #[error(
        "{status}{}; this does not look like Keystone: check auth-url, and whether Keystone runs \
         behind whatever answers here",
        said(.says.as_ref())
    )]
    NotKeystone {
        /// The status.
        status: StatusCode,
        /// The server's own words.
        says: Option<Excerpt>,
    },
    /// A redirect, which is not followed: it would hand the token to whoever
    /// stands at the other end.
    #[error(
        "{status}, a redirect{}, which is not followed: configure the final URL",
        to(.location.as_ref())
    )]
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to.
        location: Option<Excerpt>,
    },
    /// A header section beyond our limits.
    #[error("the answer's header is longer than {cap} bytes, or has too many fields")]
    HeadTooLong {
        /// The cap.
        cap: usize,
    },
    /// More than the cap.
    #[error("the answer is longer than {cap} bytes")]
    TooLong {
        /// The cap.
        cap: usize,
    },
    /// Success, but of another kind of content than was asked for.
    #[error(
        "success, but the answer is {content} and not {wanted}: something between here and the \
         server answers in its place"
    )]
    Content {
        /// What came.
        content: Excerpt,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Success, but the content makes no sense.
    #[error("success, but {0}")]
    Reply(ReplyError),
}

impl Problem {
    /// As what it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Name { .. } | Self::Connect(_) | Self::Proxy { .. } => Outcome::Unreachable,
            Self::Tls(_) => Outcome::Tls,
            Self::NameTimeout { .. } | Self::ConnectTimeout { .. } | Self::Timeout { .. } => {
                Outcome::Timeout
            }
            Self::Status { status, .. } => match status.as_u16() {
                401 => Outcome::Unauthorized,
                403 => Outcome::Forbidden,
                404 | 410 => Outcome::NotFound,
                429 => Outcome::Throttled,
                500.. => Outcome::ServerError,
                _ => Outcome::ClientError,
            },
            Self::NotKeystone { .. } | Self::Redirect { .. } => Outcome::ClientError,
            Self::Broken(_)
            | Self::HeadTooLong { .. }
            | Self::TooLong { .. }
            | Self::Content { .. }
            | Self::Reply(_) => Outcome::BadReply,
        }
    }
}

/// What makes no sense in a successful answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Keystone sent no token.
    #[error("without a usable X-Subject-Token header")]
    NoToken,
    /// Not the JSON that it should be. The position only: the parser's own words
    /// quote what they found.
    #[error("the body is not the JSON expected (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
}

impl From<serde_json::Error> for ReplyError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json {
            line: error.line(),
            column: error.column(),
        }
    }
}

/// What is wrong with TLS, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// Nobody we trust has signed it.
    #[error(
        "the server's certificate is not signed by a trusted authority: give the cloud's CA \
         certificate as ca-file"
    )]
    UnknownIssuer,
    /// Too old, or the clock is wrong.
    #[error("the server's certificate is not valid now ({0}): renew it, or set the clock")]
    Dates(String),
    /// For another host.
    #[error(
        "the server's certificate is for another name ({0}): the URL's host must be among the \
         certificate's subject alternative names"
    )]
    Name(String),
    /// Anything else about the certificate.
    #[error("the server's certificate is refused: {0}")]
    Certificate(String),
    /// The server does not speak TLS.
    #[error("the server does not speak TLS on this port: is the URL http instead of https?")]
    NotTls,
    /// The server ended the handshake.
    #[error("the server ended the TLS handshake: {0}")]
    Alert(String),
    /// The server wants a client certificate.
    #[error(
        "the server ended the TLS handshake: {0}; it wants another client certificate: check \
         cert-file and key-file"
    )]
    ClientCertificate(String),
    /// Anything else.
    #[error("TLS fails: {0}")]
    Other(String),
}

impl Problem {
    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::NameTimeout { .. }
            | Self::Connect(_)
            | Self::Proxy { .. }
            | Self::ConnectTimeout { .. }
            | Self::Broken(_) => true,
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
            // Whoever hangs is not helped by further requests that hang: a few of
            // them keep all of Barbican's threads.
            Self::Timeout { .. }
            | Self::Tls(_)
            | Self::NotKeystone { .. }
            | Self::Redirect { .. }
            | Self::HeadTooLong { .. }
            | Self::TooLong { .. }
            | Self::Content { .. }
            | Self::Reply(_) => false,
        }
    }

    /// The status, where the server gave one that is no success.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. }
            | Self::NotKeystone { status, .. }
            | Self::Redirect { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn said(excerpt: Option<&Excerpt>) -> String {
    excerpt.map_or_else(String::new, |excerpt| format!(": {excerpt}"))
}

fn to(location: Option<&Excerpt>) -> String {
    location.map_or_else(String::new, |location| format!(" to {location}"))
}
