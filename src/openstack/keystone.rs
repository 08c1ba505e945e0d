//! Keystone: credentials in, a token and the service catalog out.
//!
//! Used by `session`. Invariant: the login body is rendered once, into locked
//! memory, and is the only place besides the configuration where the password
//! is kept.

mod access_rule;
mod body;
mod reply;

use std::sync::Arc;

use http::{HeaderName, Method, StatusCode, Uri};
use tokio::time::Instant;

use super::error::{Asked, Problem, RequestError};
use super::http::{Call, Http, Wanted, shared_body, shown};
use super::retry::{Timing, Tries};
use crate::config::Cloud;
use crate::instruments::Upstream;
use crate::secret::LockedBytes;

pub use access_rule::{AccessRule, Fit};
pub(super) use reply::clean;
pub use reply::{Account, ApplicationCredential, Session};

/// The longest reply to a login: a catalog of hundreds of services fits.
const REPLY_BYTES: usize = 4 * 1024 * 1024;

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// Where and as whom to log in.
#[derive(Debug)]
pub(super) struct Keystone {
    url: Uri,
    body: Arc<LoginBody>,
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
            body: Arc::new(LoginBody(body::login(&cloud.identity, &cloud.scope))),
        })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    /// Logs in, with retries of what may pass.
    pub(super) async fn login(
        &self,
        http: &Http,
        timing: &Timing,
        deadline: Instant,
    ) -> Result<Session, RequestError> {
        let call = Call {
            counted: Upstream::Login,
            method: Method::POST,
            url: &self.url,
            token: None,
            body: shared_body(&self.body),
            wanted: Wanted::Json,
            success: &[StatusCode::CREATED, StatusCode::ACCEPTED],
            cap: REPLY_BYTES,
        };
        let mut tries = Tries::new(timing, deadline);
        loop {
            let mut body = Vec::new();
            let mut keep = |chunk: &[u8]| body.extend_from_slice(chunk);
            match http.exchange(&call, deadline, &mut keep).await {
                Ok(parts) => {
                    let token = parts.headers.get(SUBJECT_TOKEN);
                    let token = token.and_then(|value| value.to_str().ok());
                    return Session::from_reply(token, &body).map_err(|error| RequestError {
                        asked: Asked {
                            method: Method::POST,
                            url: shown(&self.url),
                        },
                        problem: Problem::Reply(error),
                    });
                }
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }
}
