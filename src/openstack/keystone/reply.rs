//! What Keystone answers to a login: who we are, until when, and the catalog.
//!
//! Used by `keystone`. Invariant: no reply panics, and text that is kept to be
//! shown is printable.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::MapAccess;
use tokio::time::Instant;

use super::access_rule::AccessRule;
use crate::openstack::catalog::Catalog;
use crate::openstack::error::ReplyError;
use crate::openstack::excerpt::Excerpt;
use crate::openstack::json::{self, FromJson, optional};
use crate::openstack::retry::timestamp;
use crate::secret::Token;

/// A lifetime to assume when Keystone does not say one.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(300);

/// A token, and what Keystone says about it.
#[derive(Debug)]
pub struct Session {
    pub(in crate::openstack) token: Token,
    pub(in crate::openstack) catalog: Catalog,
    account: Account,
    /// When Keystone gave it out.
    pub(in crate::openstack) since: Instant,
    /// From here on a new login is due.
    pub(in crate::openstack) renew_at: Instant,
    /// From here on the token is worthless.
    pub(in crate::openstack) ends_at: Instant,
}

/// Our user in Keystone, and what the token may be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user's id.
    pub user_id: Option<String>,
    /// The user's name.
    pub user: Option<String>,
    /// The user's domain.
    pub user_domain: Option<String>,
    /// The project's name; `None` without a project scope.
    pub project: Option<String>,
    /// The project's id.
    pub project_id: Option<String>,
    /// The project's domain.
    pub project_domain: Option<String>,
    /// The roles in that project.
    pub roles: Vec<String>,
    /// The application credential that was used, if one was.
    pub application_credential: Option<ApplicationCredential>,
    /// When Keystone made the token, by its own clock.
    pub issued_at: Option<Timestamp>,
    /// When the token ends.
    pub expires_at: Option<Timestamp>,
}

/// An application credential as Keystone describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Whether it may create further credentials; `None` when Keystone is silent.
    pub restricted: Option<bool>,
    /// The only requests that it allows; `None` when it allows whatever its
    /// roles allow.
    pub access_rules: Option<Vec<AccessRule>>,
}

impl Account {
    /// The only requests that the credential allows, where it is limited to some.
    pub fn access_rules(&self) -> Option<&[AccessRule]> {
        self.application_credential
            .as_ref()?
            .access_rules
            .as_deref()
    }
}

impl Session {
    /// As whom we are known.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Reads Keystone's reply to a login: the value of `X-Subject-Token` and the
    /// body. The date counts where Keystone does not say when it made the token.
    ///
    /// # Errors
    /// When there is no token, or the body is not what Keystone sends.
    pub fn from_reply(
        token: Option<&str>,
        body: &[u8],
        date: SystemTime,
    ) -> Result<Self, ReplyError> {
        let token = token
            .filter(|token| !token.is_empty())
            .ok_or(ReplyError::NoToken)?;
        let Reply { token: details } = serde_json::from_slice(body)?;
        let lifetime = details.lifetime(timestamp(date));
        let now = Instant::now();
        Ok(Self {
            token: Token::new(token.to_owned()),
            since: now,
            renew_at: now + lifetime.saturating_sub(margin(lifetime)),
            ends_at: now + lifetime,
            account: details.account(),
            catalog: details.catalog.unwrap_or_default(),
        })
    }
}

/// How long before its end a token is renewed: a fifth of its life, and half a
/// minute where it lives long enough for that.
fn margin(lifetime: Duration) -> Duration {
    (lifetime / 5).max(Duration::from_secs(30).min(lifetime / 2))
}

#[derive(Deserialize)]
struct Reply {
    token: Details,
}

/// Unknown fields are ignored, and a known one of an unexpected shape counts as
/// missing: only the token itself is essential.
#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "optional")]
    issued_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    expires_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    catalog: Option<Catalog>,
    #[serde(default, deserialize_with = "optional")]
    user: Option<Named>,
    #[serde(default, deserialize_with = "optional")]
    project: Option<Named>,
    #[serde(default, deserialize_with = "optional")]
    roles: Option<Vec<Named>>,
    #[serde(default, deserialize_with = "optional")]
    application_credential: Option<CredentialReply>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "optional")]
    id: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    domain: Option<Box<Named>>,
}

#[derive(Deserialize)]
struct CredentialReply {
    #[serde(default, deserialize_with = "optional")]
    id: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    restricted: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    access_rules: Option<Vec<RuleReply>>,
}

#[derive(Deserialize)]
struct RuleReply {
    #[serde(default, deserialize_with = "optional")]
    service: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    method: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    path: Option<String>,
}

impl FromJson for Named {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl FromJson for CredentialReply {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl FromJson for RuleReply {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl Details {
    /// By Keystone's own clock if it says when the token was issued: ours may be wrong.
    fn lifetime(&self, now: Timestamp) -> Duration {
        let read = |text: &Option<String>| -> Option<Timestamp> { text.as_ref()?.parse().ok() };
        let Some(end) = read(&self.expires_at) else {
            return UNKNOWN_LIFETIME;
        };
        let start = read(&self.issued_at).unwrap_or(now);
        Duration::try_from(end.duration_since(start))
            .unwrap_or_default()
            // A year is more than anybody means, and no `Instant` overflows.
            .min(Duration::from_secs(365 * 24 * 3600))
    }

    fn account(&self) -> Account {
        let domain = |named: &Option<Named>| {
            let domain = named.as_ref()?.domain.as_ref()?;
            printable(domain.name.as_ref().or(domain.id.as_ref()))
        };
        let name = |named: &Option<Named>| printable(named.as_ref()?.name.as_ref());
        Account {
            user_id: printable(self.user.as_ref().and_then(|user| user.id.as_ref())),
            user: name(&self.user),
            user_domain: domain(&self.user),
            project: name(&self.project),
            project_id: printable(
                self.project
                    .as_ref()
                    .and_then(|project| project.id.as_ref()),
            ),
            project_domain: domain(&self.project),
            roles: self
                .roles
                .iter()
                .flatten()
                .filter_map(|role| printable(role.name.as_ref()))
                .collect(),
            application_credential: self.application_credential.as_ref().map(|credential| {
                ApplicationCredential {
                    id: printable(credential.id.as_ref()),
                    name: printable(credential.name.as_ref()),
                    restricted: credential.restricted,
                    access_rules: credential
                        .access_rules
                        .as_ref()
                        .map(|rules| rules.iter().map(RuleReply::rule).collect()),
                }
            }),
            issued_at: self.issued_at.as_ref().and_then(|text| text.parse().ok()),
            expires_at: self.expires_at.as_ref().and_then(|text| text.parse().ok()),
        }
    }
}

impl RuleReply {
    fn rule(&self) -> AccessRule {
        let text = |field: &Option<String>| printable(field.as_ref()).unwrap_or_default();
        AccessRule {
            service: text(&self.service),
            method: text(&self.method),
            path: text(&self.path),
        }
    }
}

/// Text from a server, fit to be shown.
pub(in crate::openstack) fn printable(text: Option<&String>) -> Option<String> {
    Some(Excerpt::of_text(text?)?.to_string())
}

#[cfg(test)]
mod tests;
