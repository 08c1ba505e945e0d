//! What the credential is and may do: login, its end, its access rules.

use std::sync::Arc;

use http::Uri;

use super::access_rules::{self, Base};
use super::messages::{ends_soon, reads_all, too_powerful};
use super::walk::{Failed, Walk};
use super::{now, plural};
use crate::config::Live;
use crate::key_id::KeyId;
use crate::openstack::{CredentialEnd, Endpoint, OpenStack, Session};

impl Walk<'_> {
    pub(super) async fn login(
        &mut self,
        client: &OpenStack,
        live: &Live,
    ) -> Result<Arc<Session>, Failed> {
        let session = self.ask("login", client.login().await)?;
        let account = session.account();
        let found = format!(
            "user {}, project {}, roles {}{}",
            account.user.as_deref().unwrap_or("unknown"),
            account.project.as_deref().unwrap_or("none"),
            if account.roles.is_empty() {
                "none".to_owned()
            } else {
                account.roles.join(" ")
            },
            account
                .expires_at
                .map(|end| format!(", token until {end}"))
                .unwrap_or_default(),
        );
        // The catalog that came with the token says where Barbican is.
        let base = client.endpoint(&session).ok();
        let base = base.map_or_else(
            || Base::of(&Uri::from_static("/v1")),
            |endpoint| Base::of(endpoint.url()),
        );
        let recommended = match (&live.ring.container, live.ring.write) {
            (Some(container), _) => base.recommended_with_container(container),
            (None, Some(id)) => base.recommended(id),
            (None, None) => String::new(),
        };
        let mut warnings = too_powerful(account, &live.cloud.identity, &recommended);
        if live.ring.container.is_some() {
            warnings.extend(reads_all(account));
        }
        self.pass("login", found, warnings);
        Ok(session)
    }

    /// When the application credential ends; skipped for other logins.
    pub(super) async fn credential_end(
        &mut self,
        client: &OpenStack,
        session: Arc<Session>,
    ) -> Result<Arc<Session>, Failed> {
        if session.account().application_credential.is_none() {
            return Ok(session);
        }
        let name = "credential end";
        match self.ask(name, client.credential_end(&session).await)? {
            CredentialEnd::Never => self.pass(name, "never".to_owned(), Vec::new()),
            CredentialEnd::Unknown => self.skip(
                name,
                access_rules::unknown_end(session.account().user_id.as_deref()),
            ),
            CredentialEnd::At(end) => {
                let warnings = ends_soon(end, now()).into_iter().collect();
                self.pass(name, format!("at {end}"), warnings);
            }
        }
        // The newest session, because there may have been another login.
        self.ask("login", client.login().await)
    }

    /// What the credential's access rules allow, if it has any. The final decision is
    /// Barbican's answer, because Barbican may be mounted elsewhere than the catalog
    /// says.
    pub(super) fn access_rules(&mut self, session: &Session, endpoint: &Endpoint, live: &Live) {
        let Some(rules) = session.account().access_rules() else {
            return;
        };
        let base = Base::of(endpoint.url());
        if let Some(container) = &live.ring.container {
            let found = format!("{} rule{}", rules.len(), plural(rules.len()));
            let warnings = access_rules::doubts_with_container(rules, &base, container);
            self.pass("access rules", found, warnings);
            return;
        }
        let ids: Vec<KeyId> = live.ring.ids().collect();
        let allowed = ids
            .iter()
            .filter(|id| access_rules::allows(rules, &base, **id));
        let found = format!(
            "{} rule{}, which allow the payloads of {} of {} key{}",
            rules.len(),
            plural(rules.len()),
            allowed.count(),
            ids.len(),
            plural(ids.len()),
        );
        self.pass(
            "access rules",
            found,
            access_rules::doubts(rules, &base, &ids),
        );
    }
}
