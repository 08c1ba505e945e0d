//! Barbican: a key's payload and what is recorded about it.
//!
//! Used by `openstack`. Invariant: the payload goes chunk by chunk from the
//! connection's buffer into locked memory, and into nothing else.

use std::collections::BTreeMap;
use std::fmt::Display;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::catalog::Endpoint;
use super::error::{Error, Problem, RequestError, RequestLine};
use super::excerpt::Responder;
use super::excerpt::printable_url;
use super::http::{Call, ExpectedBody, Http};
use super::json::optional;
use super::keystone::{Session, printable};
use super::retry::{Attempts, Budget, Timing};
use crate::instruments::Upstream;
use crate::key_id::KeyId;
use crate::secret::{Kek, KekLengthError, KekWriter};

/// The longest payload that is read. A key has 32 bytes; the rest is room for
/// saying how long a wrong one is.
const PAYLOAD_BYTES: usize = 4 * 1024;

/// The longest description of a secret or a container.
pub(super) const DESCRIPTION_BYTES: usize = 64 * 1024;

/// What Barbican records about a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its name.
    pub name: Option<String>,
    /// Such as `ACTIVE`.
    pub status: Option<String>,
    /// Such as `symmetric` or `opaque`.
    pub secret_type: Option<String>,
    /// Such as `aes`; a label, which nothing enforces.
    pub algorithm: Option<String>,
    /// A label as well.
    pub bit_length: Option<u64>,
    /// A label as well, such as `cbc`.
    pub mode: Option<String>,
    /// From then on Barbican answers 404.
    pub expiration: Option<Timestamp>,
    /// The payload's content type, under `default`.
    pub content_types: BTreeMap<String, String>,
    /// The id of the user who has created it.
    pub creator_id: Option<String>,
}

/// The state of an order, whose id is often mistaken for that of the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The secret that it has created.
    pub secret: Option<KeyId>,
}

/// Downloads a key.
pub(super) async fn payload(
    http: &Http,
    timing: &Timing,
    session: &Session,
    endpoint: &Endpoint,
    id: KeyId,
    budget: Budget,
) -> Result<Kek, Error> {
    let url = secret_url(endpoint, id, "/payload")?;
    let call = get(&url, endpoint, session, Upstream::Payload);
    let mut attempts = Attempts::new(timing, budget);
    loop {
        // A new writer for every try: half a key is no beginning of a key.
        let mut writer = KekWriter::new();
        let mut keep = |chunk: &[u8]| writer.push(chunk);
        match http.exchange(&call, budget, &mut keep).await {
            Ok(_) => return Ok(writer.finish()?),
            Err(RequestError {
                problem: Problem::TooLong { cap },
                ..
            }) => return Err(KekLengthError::beyond(cap).into()),
            Err(error) => {
                let error = with_sender(error, endpoint);
                let refused = |error| match refusal(error) {
                    // Only of a payload: anything else it has in JSON.
                    Error::Unavailable(error)
                        if error.problem.status() == Some(StatusCode::NOT_ACCEPTABLE)
                            && matches!(error.problem, Problem::Status { .. }) =>
                    {
                        Error::NotBytes(error)
                    }
                    other => other,
                };
                attempts.pause_after(error).await.map_err(refused)?;
            }
        }
    }
}

/// Asks for an order of this id. One try: nothing depends on it.
pub(super) async fn order(
    http: &Http,
    session: &Session,
    endpoint: &Endpoint,
    id: KeyId,
    budget: Budget,
) -> Option<Order> {
    let url = url(endpoint, "orders", id.secret_uuid(), "").ok()?;
    let call = get(&url, endpoint, session, Upstream::Metadata);
    let mut body = Vec::new();
    let mut keep = |chunk: &[u8]| body.extend_from_slice(chunk);
    http.exchange(&call, budget, &mut keep).await.ok()?;
    let reply: OrderReply = serde_json::from_slice(&body).ok()?;
    // Other servers answer 200 to anything.
    reply.order_ref?;
    let secret = reply.secret_ref.as_deref();
    Some(Order {
        secret: secret.and_then(|href| KeyId::from_reference(href).ok()),
    })
}

/// Reads what is recorded about a key. A credential limited to payloads gets
/// 401 here, which says nothing about its token.
pub(super) async fn metadata(
    http: &Http,
    timing: &Timing,
    session: &Session,
    endpoint: &Endpoint,
    id: KeyId,
    budget: Budget,
) -> Result<Metadata, Error> {
    let url = secret_url(endpoint, id, "")?;
    let call = get(&url, endpoint, session, Upstream::Metadata);
    let reply: Reply = description(http, timing, endpoint, &call, budget).await?;
    Ok(reply.into())
}

/// Reads JSON about something in Barbican.
pub(super) async fn description<T: DeserializeOwned>(
    http: &Http,
    timing: &Timing,
    endpoint: &Endpoint,
    call: &Call<'_>,
    budget: Budget,
) -> Result<T, Error> {
    let mut attempts = Attempts::new(timing, budget);
    loop {
        let mut body = Vec::new();
        let mut keep = |chunk: &[u8]| body.extend_from_slice(chunk);
        match http.exchange(call, budget, &mut keep).await {
            Ok(_) => {
                return serde_json::from_slice(&body)
                    .map_err(|error| unavailable(call.url, Problem::Reply(error.into())));
            }
            Err(error) => {
                let error = with_sender(error, endpoint);
                attempts.pause_after(error).await.map_err(refusal)?;
            }
        }
    }
}

pub(super) fn get<'a>(
    url: &'a Uri,
    endpoint: &'a Endpoint,
    session: &'a Session,
    counted: Upstream,
) -> Call<'a> {
    let (expected, cap) = match counted {
        Upstream::Payload => (ExpectedBody::Bytes, PAYLOAD_BYTES),
        Upstream::Metadata | Upstream::Container | Upstream::Login | Upstream::Credential => {
            (ExpectedBody::Json, DESCRIPTION_BYTES)
        }
    };
    Call {
        counted,
        method: Method::GET,
        url,
        probe: endpoint.url(),
        token: Some(&session.token),
        body: Bytes::new(),
        expected,
        success: &[StatusCode::OK],
        cap,
    }
}

fn secret_url(endpoint: &Endpoint, id: KeyId, tail: &str) -> Result<Uri, Error> {
    url(endpoint, "secrets", id.secret_uuid(), tail)
}

pub(super) fn url(
    endpoint: &Endpoint,
    kind: &str,
    uuid: impl Display,
    tail: &str,
) -> Result<Uri, Error> {
    let base = endpoint.url();
    let path = format!("{}/{kind}/{uuid}{tail}", base.path());
    let mut parts = base.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).map_err(|error| unavailable(base, Problem::Broken(error.to_string())))
}

fn unavailable(url: &Uri, problem: Problem) -> Error {
    Error::Unavailable(RequestError {
        asked: RequestLine {
            method: Method::GET,
            url: printable_url(url),
        },
        problem,
    })
}

/// Who sent a refusal. Only Barbican knows whether a key exists and who may read it; a
/// 404 of a load balancer depends on its configuration.
fn with_sender(mut error: RequestError, endpoint: &Endpoint) -> RequestError {
    if let Problem::Status {
        status,
        says,
        responder: responder @ (Responder::BarbicansRouter | Responder::Other),
        ..
    } = &error.problem
        && status.is_client_error()
        && !matches!(
            *status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
    {
        let (status, endpoint) = (*status, Box::new(endpoint.clone()));
        // Where there is no such path, Barbican looks no further than to what is expected.
        let unknown_path = match responder {
            Responder::BarbicansRouter => matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE
            ),
            _ => status == StatusCode::NOT_ACCEPTABLE,
        };
        error.problem = if unknown_path {
            Problem::WrongPath { status, endpoint }
        } else {
            Problem::NotBarbican {
                status,
                says: says.clone(),
                endpoint,
            }
        };
    }
    error
}

/// What a failed request for a secret means.
fn refusal(error: RequestError) -> Error {
    match error.problem {
        Problem::Status { status, .. } => match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied { refusal: error },
            StatusCode::NOT_FOUND | StatusCode::GONE => Error::NotFound(error),
            _ => Error::Unavailable(error),
        },
        _ => Error::Unavailable(error),
    }
}

#[derive(Deserialize)]
struct OrderReply {
    #[serde(default, deserialize_with = "optional")]
    order_ref: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    secret_ref: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    status: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    secret_type: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    algorithm: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    bit_length: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    mode: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    expiration: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    content_types: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "optional")]
    creator_id: Option<String>,
}

impl From<Reply> for Metadata {
    fn from(reply: Reply) -> Self {
        let content_types = reply.content_types.unwrap_or_default();
        Self {
            name: printable(reply.name.as_ref()),
            status: printable(reply.status.as_ref()),
            secret_type: printable(reply.secret_type.as_ref()),
            algorithm: printable(reply.algorithm.as_ref()),
            bit_length: reply.bit_length,
            mode: printable(reply.mode.as_ref()),
            creator_id: printable(reply.creator_id.as_ref()),
            expiration: reply.expiration.as_deref().and_then(utc),
            content_types: content_types
                .iter()
                .filter_map(|(key, value)| Some((printable(Some(key))?, printable(Some(value))?)))
                .collect(),
        }
    }
}

/// Barbican writes UTC without saying so.
fn utc(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::Offset::UTC.to_timestamp(civil).ok()
    })
}
