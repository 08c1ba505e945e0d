//! One HTTP request at a time, with every byte and every second bounded.
//!
//! Used by `keystone` and `barbican`; [`Http::exchange`] is the only place where a
//! request is sent, so also where its outcome and duration are known. Invariant: the
//! caller gets an answer within its size limit, or an error.

mod body;
mod failure;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
    WWW_AUTHENTICATE,
};
use http::response::Parts;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower_service::Service;

use body::{Answer, ERROR_BODY_BYTES, Unread, read};
use failure::{HEAD_BYTES, sending_problem};

use super::connect::{Connector, Peer};
use super::error::{Problem, RequestError, RequestLine};
use super::excerpt::{Redactor, Responder, is_keystones, printable_url, responder};
use super::hedge::hedged;
use super::retry::{Budget, Timing, retry_after};
use crate::instruments::{Instruments, Outcome, Upstream};
use crate::secret::Token;

pub(super) use body::{ExpectedBody, shared_body};

/// How long to wait for it: the status alone is useful.
const ERROR_BODY_TIME: Duration = Duration::from_secs(1);

const AGENT: &str = concat!("barbican-kms/", env!("CARGO_PKG_VERSION"));

const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// One request.
pub(super) struct Call<'a> {
    /// As what it is counted.
    pub(super) counted: Upstream,
    pub(super) method: Method,
    pub(super) url: &'a Uri,
    /// Of the same server: any answer to a GET of it shows that there is one.
    pub(super) probe: &'a Uri,
    pub(super) token: Option<&'a Token>,
    /// Sent as JSON; empty for none.
    pub(super) body: Bytes,
    pub(super) expected: ExpectedBody,
    /// The statuses that are a success.
    pub(super) success: &'a [StatusCode],
    /// The longest body that is accepted.
    pub(super) cap: usize,
}

/// The HTTP client.
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    redactor: Redactor,
    timing: Timing,
    instruments: Arc<Instruments>,
    /// What answers in place of real servers.
    #[cfg(test)]
    servers: Option<Arc<dyn Servers>>,
}

/// Answers requests without a network, for tests in which time is not real.
#[cfg(test)]
pub(crate) trait Servers: Send + Sync {
    /// The answer to `request`, or what came in its place.
    fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> futures_core::future::BoxFuture<'_, Result<Response<Full<Bytes>>, Problem>>;
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(
        connector: Connector,
        redactor: Redactor,
        timing: Timing,
        instruments: Arc<Instruments>,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new())
            // The buffers of an open connection hold the last token and payload.
            // The timer closes what is idle (without it, that happens only when
            // the next request looks); closing frees the buffers, and freed
            // memory is wiped by `secret::WipingAllocator`.
            .pool_idle_timeout(timing.idle)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(HEAD_BYTES)
            .build(connector.clone());
        Self {
            client,
            connector,
            redactor,
            timing,
            instruments,
            #[cfg(test)]
            servers: None,
        }
    }

    /// The same client, answered by `servers`.
    #[cfg(test)]
    pub(super) fn answered_by(mut self, servers: Arc<dyn Servers>) -> Self {
        self.servers = Some(servers);
        self
    }

    pub(super) fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// Sends one request and passes the body of a success to `sink`, piece by
    /// piece. Redirects are not followed.
    pub(super) async fn exchange(
        &self,
        call: &Call<'_>,
        budget: Budget,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Parts, RequestError> {
        let start = Instant::now();
        let left = budget.deadline.saturating_duration_since(start);
        let limit = self.timing.request.min(left);
        let done = tokio::time::timeout(limit, self.run(call, budget.urgent, sink)).await;
        let done = done.unwrap_or(Err(Problem::Timeout { limit }));
        let elapsed = start.elapsed();
        let outcome = done.as_ref().map_or_else(Problem::outcome, |_| Outcome::Ok);
        self.instruments.upstream(call.counted, outcome, elapsed);
        let elapsed_seconds = elapsed.as_secs_f64();
        match done {
            Ok(parts) => {
                let status = parts.status.as_u16();
                tracing::debug!(asked = %asked(call), status, elapsed_seconds, "request");
                Ok(parts)
            }
            Err(problem) => {
                let asked = asked(call);
                tracing::debug!(%asked, %problem, elapsed_seconds, "request failed");
                Err(RequestError { asked, problem })
            }
        }
    }

    /// Opens a connection and closes it again.
    pub(super) async fn connect(&self, url: &Uri) -> Result<Peer, RequestError> {
        let connected = self.connector.clone().call(url.clone()).await;
        match connected {
            Ok(stream) => Ok(Peer::of(&stream)),
            Err(problem) => Err(RequestError {
                asked: RequestLine {
                    method: Method::CONNECT,
                    url: printable_url(url),
                },
                problem,
            }),
        }
    }

    /// The proxy on the way to `url`, if any, as host and port.
    pub(super) fn proxy(&self, url: &Uri) -> Option<&str> {
        let proxy = self.connector.proxies().for_url(url)?;
        Some(proxy.shown())
    }

    /// The same, to connect to.
    pub(super) fn proxy_address(&self, url: &Uri) -> Option<&str> {
        let proxy = self.connector.proxies().for_url(url)?;
        Some(proxy.address())
    }

    async fn run(
        &self,
        call: &Call<'_>,
        urgent: bool,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Parts, Problem> {
        #[cfg(test)]
        if let Some(servers) = &self.servers {
            let response = servers.answer(self.request(call)?).await?;
            return self.take(call, response, sink).await;
        }
        let response = if urgent {
            hedged(self.timing.silence, || self.send(call), || self.probe(call)).await?
        } else {
            self.send(call).await?
        };
        self.take(call, response, sink).await
    }

    /// What an answer comes to.
    async fn take<B: Answer>(
        &self,
        call: &Call<'_>,
        response: Response<B>,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Parts, Problem> {
        let (parts, body) = response.into_parts();
        if !call.success.contains(&parts.status) {
            return Err(self.refused(call, Response::from_parts(parts, body)).await);
        }
        self.check_content(call.expected, &parts)?;
        read(body, call.cap, sink)
            .await
            .map_err(|broken| match broken {
                Unread::TooLong => Problem::TooLong { cap: call.cap },
                Unread::Broken(error) => sending_problem(&*error, None),
            })?;
        Ok(parts)
    }

    /// Up to the head of the answer.
    async fn send(&self, call: &Call<'_>) -> Result<Response<Incoming>, Problem> {
        let request = self.request(call)?;
        let response = self.client.request(request).await;
        response.map_err(|error| sending_problem(&error, call.url.scheme()))
    }

    /// Whether the server of `call` answers at all.
    async fn probe(&self, call: &Call<'_>) -> bool {
        let probe = Call {
            counted: call.counted,
            method: Method::GET,
            url: call.probe,
            probe: call.probe,
            token: None,
            body: Bytes::new(),
            expected: ExpectedBody::Json,
            success: &[],
            cap: 0,
        };
        let answered = self.send(&probe).await;
        let asked = asked(&probe);
        match &answered {
            Ok(answer) => tracing::debug!(%asked, status = answer.status().as_u16(), "probe"),
            Err(problem) => tracing::debug!(%asked, %problem, "probe failed"),
        }
        answered.is_ok_and(|answer| !is_gateways(answer.status()))
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.url.clone())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, call.expected.media_type());
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = call.token {
            request = request.header(AUTH_TOKEN, sensitive(token.expose_text())?);
        }
        // In a tunnel the proxy has been told already, and must not be told in
        // the request: that goes to the server.
        if call.url.scheme() == Some(&Scheme::HTTP)
            && let Some(proxy) = self.connector.proxies().for_url(call.url)
            && let Some(authorization) = proxy.authorization()
        {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        request
            .body(Full::new(call.body.clone()))
            .map_err(|error| Problem::Broken(error.to_string()))
    }

    async fn refused<B: Answer>(&self, call: &Call<'_>, response: Response<B>) -> Problem {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        let token = call.token.map(Token::expose_text);
        if status.is_redirection()
            && let Some(location) = parts.headers.get(LOCATION)
        {
            let text = String::from_utf8_lossy(location.as_bytes());
            let text = text.split(['?', '#']).next().unwrap_or_default();
            return Problem::Redirect {
                status,
                location: self.redactor.excerpt(text, token),
            };
        }
        let mut text = Vec::new();
        let mut keep = |chunk: &[u8]| text.extend_from_slice(chunk);
        // If this fails, the status is still reported.
        let _ =
            tokio::time::timeout(ERROR_BODY_TIME, read(body, ERROR_BODY_BYTES, &mut keep)).await;
        Problem::Status {
            status,
            keystones: is_keystones(&text, status),
            responder: if status == StatusCode::UNAUTHORIZED && asks_for_a_token(&parts) {
                Responder::Barbican
            } else {
                responder(&text, status)
            },
            says: self.redactor.excerpt_of_body(&text, token),
            retry_after: parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value, self.timing.date())),
        }
    }

    fn check_content(&self, expected: ExpectedBody, parts: &Parts) -> Result<(), Problem> {
        let text = |name| {
            let value: Option<&HeaderValue> = parts.headers.get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()))
        };
        let strange = text(CONTENT_TYPE)
            .filter(|kind| expected.excludes(kind))
            .or_else(|| text(CONTENT_ENCODING).filter(|coding| coding != "identity"));
        let content = strange.and_then(|strange| self.redactor.excerpt(&strange, None));
        match content {
            None => Ok(()),
            Some(content) => Err(Problem::Content {
                content,
                expected: expected.media_type(),
            }),
        }
    }
}

/// Barbican's 401 is Keystone's middleware's, whose body is not Barbican's.
fn asks_for_a_token(parts: &Parts) -> bool {
    let values = parts.headers.get_all(WWW_AUTHENTICATE);
    values.iter().any(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"keystone"))
    })
}

/// Whether a gateway answers for a server that is down.
fn is_gateways(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn sensitive(text: &str) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Problem::Broken("the token cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn asked(call: &Call<'_>) -> RequestLine {
    RequestLine {
        method: call.method.clone(),
        url: printable_url(call.url),
    }
}
