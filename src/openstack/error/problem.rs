//! What can go wrong with one request.
//!
//! Used by `error`, and by whatever sends requests. Invariant: as there.

use std::time::Duration;

use http::StatusCode;

use super::tls_problem::TlsProblem;
use crate::instruments::Outcome;
use crate::openstack::catalog::Endpoint;
use crate::openstack::excerpt::{Excerpt, Responder};

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
    /// The proxy refuses the connection.
    #[error("the proxy {proxy} refuses the connection: {reason}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it did.
        reason: String,
    },
    /// TLS: the server is not the expected one, or does not speak TLS.
    #[error("{0}")]
    Tls(TlsProblem),
    /// No connection in time.
    #[error("connecting took longer than {:.1} s (name, proxy and TLS included)", .limit.as_secs_f64())]
    ConnectTimeout {
        /// How long was waited.
        limit: Duration,
    },
    /// No answer in time.
    #[error("no complete answer within {:.1} s", .limit.as_secs_f64())]
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
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
        /// Whether the body is an error as Keystone writes them.
        keystones: bool,
        /// Whether the answer is one of Barbican, or of the middleware before it.
        responder: Responder,
    },
    /// A refusal where Barbican should be, in another form than its own.
    #[error(
        "{status}{}; this is not Barbican's answer: something in front of Barbican answers (an \
         ingress, a load balancer), or {}, {endpoint}, is wrong",
        said(.says.as_ref()), .endpoint.place()
    )]
    NotBarbican {
        /// The status.
        status: StatusCode,
        /// The server's own words.
        says: Option<Excerpt>,
        /// Where Barbican should be.
        endpoint: Box<Endpoint>,
    },
    /// Barbican does not know the path.
    #[error(
        "{status}; {} is {endpoint}; it must be Barbican's root or end in /v1",
        .endpoint.place()
    )]
    WrongPath {
        /// The status.
        status: StatusCode,
        /// What is configured, or in the catalog.
        endpoint: Box<Endpoint>,
    },
    /// An answer where Keystone should be, in another form than its own.
    #[error(
        "{status}{}; this is not Keystone's answer: something in front of Keystone answers (an \
         ingress, a load balancer, a login page), or auth-url is wrong",
        said(.says.as_ref())
    )]
    NotKeystone {
        /// The status.
        status: StatusCode,
        /// The server's own words.
        says: Option<Excerpt>,
    },
    /// A redirect, which is not followed: it would hand the token to whatever server
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
        "success, but the answer is {content} and not {expected}: something between the sidecar and \
         the server answers instead"
    )]
    Content {
        /// What came.
        content: Excerpt,
        /// What was asked for.
        expected: &'static str,
    },
    /// Success, but the content makes no sense.
    #[error("success, but {0}")]
    Reply(ReplyError),
}

impl Problem {
    /// As what it is counted.
    pub(in crate::openstack) fn outcome(&self) -> Outcome {
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
            Self::NotKeystone { .. }
            | Self::NotBarbican { .. }
            | Self::WrongPath { .. }
            | Self::Redirect { .. } => Outcome::ClientError,
            Self::Broken(_)
            | Self::HeadTooLong { .. }
            | Self::TooLong { .. }
            | Self::Content { .. }
            | Self::Reply(_) => Outcome::BadReply,
        }
    }

    /// Whether there was no answer, or another server answered while the right one is
    /// down: retrying soon costs little, and nothing else is known to help.
    pub(in crate::openstack) fn is_silence(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::NameTimeout { .. }
            | Self::Connect(_)
            | Self::ConnectTimeout { .. }
            | Self::Timeout { .. }
            | Self::Broken(_) => true,
            Self::Status {
                status,
                retry_after: None,
                ..
            } => matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(in crate::openstack) fn is_passing(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::NameTimeout { .. }
            | Self::Connect(_)
            | Self::Proxy { .. }
            | Self::ConnectTimeout { .. }
            | Self::Broken(_)
            | Self::NotKeystone { .. }
            | Self::NotBarbican { .. } => true,
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
            // A server that hangs is not helped by further requests that hang: a few of
            // them keep all of Barbican's threads.
            Self::Timeout { .. }
            | Self::Tls(_)
            | Self::WrongPath { .. }
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
            | Self::NotBarbican { status, .. }
            | Self::WrongPath { status, .. }
            | Self::Redirect { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What makes no sense in a successful answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Keystone sent no token.
    #[error("the answer has no usable X-Subject-Token header")]
    NoToken,
    /// Not the JSON that it should be. The position only: the parser's own words
    /// quote what they found.
    #[error("the body is not the expected JSON (line {line}, column {column})")]
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

fn said(excerpt: Option<&Excerpt>) -> String {
    excerpt.map_or_else(String::new, |excerpt| format!(": {excerpt}"))
}

fn to(location: Option<&Excerpt>) -> String {
    location.map_or_else(String::new, |location| format!(" to {location}"))
}
