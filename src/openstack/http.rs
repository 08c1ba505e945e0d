//! One HTTP request at a time, with every byte and every second bounded.
//!
//! Used by `keystone` and `barbican`; [`Http::exchange`] is the only place where
//! a request is sent, so also where its outcome and duration are known.
//! Invariant: what a server sends reaches its caller below the cap that the
//! caller named, or not at all.

use std::error::Error as StdError;
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
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower_service::Service;

use super::connect::{Connector, Peer, find, innermost};
use super::error::{Problem, RequestError, RequestLine};
use super::excerpt::{Redactor, Speaker, is_keystones, printable_url, speaker};
use super::retry::{Timing, retry_after};
use super::tls;
use crate::instruments::{Instruments, Outcome, Upstream};
use crate::secret::Token;

/// The longest header section of a reply. A token is at most a few KiB of it.
const HEAD_BYTES: usize = 64 * 1024;

/// How much of an error's body is looked at.
const ERROR_BODY_BYTES: usize = 8 * 1024;

/// How long is waited for it: the status alone is worth reporting.
const ERROR_BODY_TIME: Duration = Duration::from_secs(1);

const AGENT: &str = concat!("barbican-kms/", env!("CARGO_PKG_VERSION"));

const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// One request.
pub(super) struct Call<'a> {
    /// As what it is counted.
    pub(super) counted: Upstream,
    pub(super) method: Method,
    pub(super) url: &'a Uri,
    pub(super) token: Option<&'a Token>,
    /// Sent as JSON; empty for none.
    pub(super) body: Bytes,
    pub(super) wanted: ExpectedBody,
    /// The statuses that are a success.
    pub(super) success: &'a [StatusCode],
    /// The longest body that is accepted.
    pub(super) cap: usize,
}

/// The content that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedBody {
    Json,
    Bytes,
}

impl ExpectedBody {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
        }
    }

    /// Servers are free with content types, so only what is certainly something
    /// else is refused: above all the pages of proxies and captive portals.
    fn excludes(self, content_type: &str) -> bool {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        let markup = kind == "text/html" || kind.ends_with("/xml") || kind.ends_with("+xml");
        let json = kind.ends_with("/json") || kind.ends_with("+json");
        markup || (self == Self::Bytes && json)
    }
}

/// The HTTP client.
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    redactor: Redactor,
    request: Duration,
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
        timing: &Timing,
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
            request: timing.request,
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
        deadline: Instant,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Parts, RequestError> {
        let start = Instant::now();
        let limit = self.request.min(deadline.saturating_duration_since(start));
        let done = tokio::time::timeout(limit, self.run(call, sink)).await;
        let done = done.unwrap_or(Err(Problem::Timeout { limit }));
        let asked = asked(call);
        let elapsed = start.elapsed();
        let outcome = done.as_ref().map_or_else(Problem::outcome, |_| Outcome::Ok);
        self.instruments.upstream(call.counted, outcome, elapsed);
        let elapsed_seconds = elapsed.as_secs_f64();
        match &done {
            Ok(parts) => {
                let status = parts.status.as_u16();
                tracing::debug!(%asked, status, elapsed_seconds, "request");
            }
            Err(problem) => tracing::debug!(%asked, %problem, elapsed_seconds, "request failed"),
        }
        done.map_err(|problem| RequestError { asked, problem })
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
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Parts, Problem> {
        let request = self.request(call)?;
        #[cfg(test)]
        if let Some(servers) = &self.servers {
            let response = servers.answer(request).await?;
            return self.take(call, response, sink).await;
        }
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| sending_problem(&error, call.url.scheme()))?;
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
        self.check_content(call.wanted, &parts)?;
        read(body, call.cap, sink)
            .await
            .map_err(|broken| match broken {
                Unread::TooLong => Problem::TooLong { cap: call.cap },
                Unread::Broken(error) => sending_problem(&*error, None),
            })?;
        Ok(parts)
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.url.clone())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, call.wanted.media_type());
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
        // Whatever goes wrong here, the status is the news.
        let _ =
            tokio::time::timeout(ERROR_BODY_TIME, read(body, ERROR_BODY_BYTES, &mut keep)).await;
        Problem::Status {
            status,
            keystones: is_keystones(&text, status),
            speaker: if status == StatusCode::UNAUTHORIZED && asks_for_a_token(&parts) {
                Speaker::Barbican
            } else {
                speaker(&text, status)
            },
            says: self.redactor.excerpt_of_body(&text, token),
            retry_after: parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value, jiff::Timestamp::now())),
        }
    }

    fn check_content(&self, wanted: ExpectedBody, parts: &Parts) -> Result<(), Problem> {
        let text = |name| {
            let value: Option<&HeaderValue> = parts.headers.get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()))
        };
        let strange = text(CONTENT_TYPE)
            .filter(|kind| wanted.excludes(kind))
            .or_else(|| text(CONTENT_ENCODING).filter(|coding| coding != "identity"));
        let content = strange.and_then(|strange| self.redactor.excerpt(&strange, None));
        match content {
            None => Ok(()),
            Some(content) => Err(Problem::Content {
                content,
                wanted: wanted.media_type(),
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

enum Unread {
    TooLong,
    Broken(Box<dyn StdError + Send + Sync>),
}

/// The body of an answer.
trait Answer: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin {}

impl<B> Answer for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin
{
}

/// Passes the body to `sink`; what lies beyond `cap` is not passed on.
async fn read<B: Answer>(
    mut body: B,
    cap: usize,
    sink: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), Unread> {
    let mut room = cap;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > cap && cap != ERROR_BODY_BYTES {
        return Err(Unread::TooLong);
    }
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame
            .map_err(|error| Unread::Broken(error.into()))?
            .into_data()
        else {
            continue;
        };
        sink(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        room = room.checked_sub(chunk.len()).ok_or(Unread::TooLong)?;
    }
    Ok(())
}

fn sensitive(text: &str) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Problem::Broken("the token is not fit for a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a failed request means. `scheme` is given as long as no answer has begun.
fn sending_problem(error: &(dyn StdError + 'static), scheme: Option<&Scheme>) -> Problem {
    if let Some(problem) = find::<Problem>(error) {
        return problem.clone();
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return Problem::Tls(tls::problem(error));
    }
    let what = match find::<hyper::Error>(error) {
        Some(error) if error.is_parse_too_large() => {
            return Problem::HeadTooLong { cap: HEAD_BYTES };
        }
        Some(error) if error.is_parse() => "the answer is not HTTP".to_owned(),
        Some(error) if error.is_incomplete_message() => {
            "the connection was closed before the answer was complete".to_owned()
        }
        _ => format!("the connection broke: {}", innermost(error)),
    };
    // How servers that expect TLS answer to plain HTTP differs widely.
    let hint = if scheme == Some(&Scheme::HTTP) {
        "; if the server speaks TLS on this port, the URL must be https"
    } else {
        ""
    };
    Problem::Broken(what + hint)
}

fn asked(call: &Call<'_>) -> RequestLine {
    RequestLine {
        method: call.method.clone(),
        url: printable_url(call.url),
    }
}

/// A body that stays in locked memory until the connection copies it out.
pub(super) fn shared_body<T: AsRef<[u8]> + Send + Sync + 'static>(body: &Arc<T>) -> Bytes {
    struct Shared<T>(Arc<T>);
    impl<T: AsRef<[u8]>> AsRef<[u8]> for Shared<T> {
        fn as_ref(&self) -> &[u8] {
            (*self.0).as_ref()
        }
    }
    Bytes::from_owner(Shared(Arc::clone(body)))
}
