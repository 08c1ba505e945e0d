//! Keystone: credentials in, a token and the service catalog out.
//!
//! Used by `session`. Invariant: the login body is rendered once, into locked
//! memory, and is the only place besides the configuration where the password
//! is kept.

mod access_rule;
mod body;
mod reply;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, Uri};

use super::credential::CredentialEnd;
use super::error::{Problem, RequestError, RequestLine};
use super::excerpt::printable_url;
use super::http::{Call, ExpectedBody, Http, shared_body};
use super::retry::{Attempts, Budget, Timing};
use crate::config::Cloud;
use crate::instruments::Upstream;
use crate::secret::LockedBytes;

pub use access_rule::{AccessRule, RuleMatch};
pub(super) use reply::printable;
pub use reply::{Account, ApplicationCredential, Session};

/// The longest reply to a login: a catalog of hundreds of services fits.
const REPLY_BYTES: usize = 4 * 1024 * 1024;

/// The longest description of an application credential.
const CREDENTIAL_BYTES: usize = 64 * 1024;

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// Where and as whom to log in.
#[derive(Debug)]
pub(super) struct Keystone {
    /// Of logins.
    url: Uri,
    /// As configured.
    base: Uri,
    body: Arc<LoginBody>,
}

/// Below Keystone's `/v3`; `None` if the ids are malformed.
fn credential_path(account: &Account) -> Option<String> {
    let is_id = |id: &&String| !id.is_empty() && id.chars().all(|one| one.is_ascii_alphanumeric());
    let user = account.user_id.as_ref().filter(is_id)?;
    let credential = account.application_credential.as_ref()?.id.as_ref();
    let credential = credential.filter(is_id)?;
    Some(format!(
        "/users/{user}/application_credentials/{credential}"
    ))
}

/// Who sent an answer. A proxy, an ingress or a login page also answers if Keystone is
/// down or the path is wrong. Other credentials do not fix that, and it can end by
/// itself. Only for a 401 the sender does not matter: sending the password again cannot
/// help.
fn with_sender(mut error: RequestError) -> RequestError {
    let not_keystones = match &error.problem {
        Problem::Status {
            status,
            says,
            keystones: false,
            ..
        } if status.is_success()
            || (status.is_client_error()
                && !matches!(
                    *status,
                    StatusCode::UNAUTHORIZED
                        | StatusCode::REQUEST_TIMEOUT
                        | StatusCode::TOO_MANY_REQUESTS
                )) =>
        {
            Some((*status, says.clone()))
        }
        Problem::Content { content, .. } => Some((StatusCode::CREATED, Some(content.clone()))),
        _ => None,
    };
    if let Some((status, says)) = not_keystones {
        error.problem = Problem::NotKeystone { status, says };
    }
    error
}

#[derive(Debug)]
struct LoginBody(LockedBytes);

impl AsRef<[u8]> for LoginBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Keystone {
    /// `None` when the configured URL cannot be extended.
    pub(super) fn new(cloud: &Cloud) -> Option<Self> {
        let path = cloud.keystone.path().trim_end_matches('/');
        let url = Uri::builder()
            .scheme(cloud.keystone.scheme_str()?)
            .authority(cloud.keystone.authority()?.clone())
            .path_and_query(format!("{path}/auth/tokens"))
            .build()
            .ok()?;
        Some(Self {
            url,
            base: cloud.keystone.clone(),
            body: Arc::new(LoginBody(body::login(&cloud.identity, &cloud.scope))),
        })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    /// When the application credential of `session` ends. One try: nothing
    /// depends on it.
    pub(super) async fn credential_end(
        &self,
        http: &Http,
        session: &Session,
        budget: Budget,
    ) -> CredentialEnd {
        let end = self.end_of_credential(http, session, budget).await;
        end.unwrap_or_default()
    }

    async fn end_of_credential(
        &self,
        http: &Http,
        session: &Session,
        budget: Budget,
    ) -> Option<CredentialEnd> {
        let url = self.credential_url(session.account())?;
        let call = Call {
            counted: Upstream::Credential,
            method: Method::GET,
            url: &url,
            probe: &self.base,
            token: Some(&session.token),
            body: Bytes::new(),
            expected: ExpectedBody::Json,
            success: &[StatusCode::OK],
            cap: CREDENTIAL_BYTES,
        };
        let mut body = Vec::new();
        let mut keep = |chunk: &[u8]| body.extend_from_slice(chunk);
        http.exchange(&call, budget, &mut keep).await.ok()?;
        let reply: serde_json::Value = serde_json::from_slice(&body).ok()?;
        match reply.pointer("/application_credential/expires_at")? {
            serde_json::Value::Null => Some(CredentialEnd::Never),
            // Keystone writes it without a zone, and means UTC.
            serde_json::Value::String(text) => {
                let text = text.trim_end_matches('Z').to_owned() + "Z";
                Some(CredentialEnd::At(text.parse().ok()?))
            }
            _ => None,
        }
    }

    fn credential_url(&self, account: &Account) -> Option<Uri> {
        let path = credential_path(account)?;
        let base = self.url.path().strip_suffix("/auth/tokens")?;
        Uri::builder()
            .scheme(self.url.scheme_str()?)
            .authority(self.url.authority()?.clone())
            .path_and_query(format!("{base}{path}"))
            .build()
            .ok()
    }

    /// Whether the rules of the credential, where it has any, allow to ask that.
    pub(super) fn may_ask_for_end(account: &Account) -> bool {
        let Some(path) = credential_path(account) else {
            return false;
        };
        let path = format!("/v3{path}");
        account.access_rules().is_none_or(|rules| {
            // Where Keystone is mounted below a prefix, its rules see that too.
            rules.iter().any(|rule| {
                rule.service == "identity"
                    && rule.method == "GET"
                    && (rule.is_for(&path) == RuleMatch::Yes
                        || rule.is_for(&format!("/identity{path}")) == RuleMatch::Yes)
            })
        })
    }

    /// Logs in, and retries temporary failures.
    pub(super) async fn login(
        &self,
        http: &Http,
        timing: &Timing,
        budget: Budget,
    ) -> Result<Session, RequestError> {
        let call = Call {
            counted: Upstream::Login,
            method: Method::POST,
            url: &self.url,
            probe: &self.base,
            token: None,
            body: shared_body(&self.body),
            expected: ExpectedBody::Json,
            success: &[StatusCode::CREATED, StatusCode::ACCEPTED],
            cap: REPLY_BYTES,
        };
        let mut attempts = Attempts::new(timing, budget);
        loop {
            let mut body = Vec::new();
            let mut keep = |chunk: &[u8]| body.extend_from_slice(chunk);
            match http.exchange(&call, budget, &mut keep).await {
                Ok(parts) => {
                    let token = parts.headers.get(SUBJECT_TOKEN);
                    let token = token.and_then(|value| value.to_str().ok());
                    let date = timing.clock.wall();
                    return Session::from_reply(token, &body, date).map_err(|error| RequestError {
                        asked: RequestLine {
                            method: Method::POST,
                            url: printable_url(&self.url),
                        },
                        problem: Problem::Reply(error),
                    });
                }
                Err(error) => attempts.pause_after(with_sender(error)).await?,
            }
        }
    }
}
