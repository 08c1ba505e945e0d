//! The container that lists the keys, and each of them.

use std::time::SystemTime;

use http::StatusCode;
use jiff::Timestamp;

use super::access_rules::{self, Base};
use super::plural;
use super::walk::{Failed, Walk};
use crate::config::Container;
use crate::key_id::KeyId;
use crate::keyring::{ContainerProblem, ListedKeys};
use crate::log::error_chain::ErrorChain;
use crate::openstack::{Access, ContainerError, Endpoint, Error, OpenStack, Session};

/// The keys of a container, each with what it is there.
pub(super) type KeysWithRoles = Vec<(KeyId, &'static str)>;

/// The container is of no use to a sidecar that starts.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OfNoUse(ContainerProblem);

impl Walk<'_> {
    /// Reads the container; the keys that it lists, the write key first.
    pub(super) async fn container(
        &mut self,
        client: &OpenStack,
        session: &Session,
        endpoint: &Endpoint,
        container: &Container,
    ) -> Result<KeysWithRoles, Failed> {
        let name = "key container";
        let read = client.container_with(session, endpoint, container.id).await;
        let listing = match read.and_then(crate::openstack::Container::listing) {
            Ok(listing) => listing,
            Err(ContainerError::Upstream(error)) => return self.ask(name, Err(error)),
            Err(error) => {
                let fix = fix(&error, session, endpoint, container);
                return self.take(name, Err(error), &fix);
            }
        };
        let keys = listing.keys();
        let now = date();
        let Some(write) = write_key(&keys, now) else {
            let problem = if keys.keys.is_empty() {
                ContainerProblem::Empty
            } else {
                ContainerProblem::NoActiveKey
            };
            let fix = "add the write key to the container under a time in UTC that has passed, such \
                       as 2026-01-01T00:00:00Z";
            return self.take(name, Err(OfNoUse(problem)), fix);
        };
        let found = format!("{}: {}", container.id, described(&keys, write, now));
        self.pass(name, found, keys.warnings);
        self.access(client, session, endpoint, container).await;
        let role = |id: KeyId| {
            if id == write {
                "write key"
            } else {
                "listed key"
            }
        };
        let mut listed: KeysWithRoles = keys.keys.keys().map(|id| (*id, role(*id))).collect();
        listed.sort_by_key(|(id, _)| *id != write);
        Ok(listed)
    }

    /// Who may change the container, as far as the credential may ask. The sidecar never does.
    async fn access(
        &mut self,
        client: &OpenStack,
        session: &Session,
        endpoint: &Endpoint,
        container: &Container,
    ) {
        let name = "container access";
        match client
            .container_access(session, endpoint, container.id)
            .await
        {
            Ok(Some(Access { project: true, .. })) => self.pass(
                name,
                "every member of the project may change it".to_owned(),
                vec![OPEN.to_owned()],
            ),
            Ok(Some(Access { readers, .. })) => self.pass(
                name,
                format!(
                    "private: its creator and administrators may change it, and {readers} \
                     user{} may read it",
                    plural(readers)
                ),
                Vec::new(),
            ),
            Ok(None) => self.skip(name, "the answer does not say who may change it".to_owned()),
            Err(Error::Denied { .. }) => self.skip(
                name,
                "not readable with this credential, as recommended; as the creator of the \
                 container see that `openstack acl get CONTAINER_HREF` shows no project access"
                    .to_owned(),
            ),
            Err(error) => self.skip(name, ErrorChain(&error).to_string()),
        }
    }
}

const OPEN: &str = "whoever can change the container can add a key of their own, which then wraps \
     all new data; make it private: `openstack acl submit --operation-type read --no-project-access \
     --user USER_ID CONTAINER_HREF`, where USER_ID is the user of the sidecars";

#[expect(
    clippy::disallowed_methods,
    reason = "for a person, at this very moment"
)]
fn date() -> SystemTime {
    SystemTime::now()
}

fn write_key(keys: &ListedKeys, now: SystemTime) -> Option<KeyId> {
    let due = |(id, time): (&KeyId, &Option<SystemTime>)| Some(((*time)?, *id));
    let due = keys.keys.iter().filter_map(due);
    due.filter(|(time, _)| *time <= now).max().map(|(_, id)| id)
}

fn described(keys: &ListedKeys, write: KeyId, now: SystemTime) -> String {
    let count = keys.keys.len();
    let shown = |time: SystemTime| {
        Timestamp::try_from(time).map_or_else(|_| "long ago".to_owned(), |time| time.to_string())
    };
    let since = keys.keys.get(&write).copied().flatten().map(shown);
    let next = keys.keys.iter();
    let next = next.filter_map(|(id, time)| Some(((*time)?, *id)));
    let next = next.filter(|(time, _)| *time > now).min();
    let next = next.map_or_else(String::new, |(time, id)| {
        format!(", then {id} from {}", shown(time))
    });
    let staged = keys.keys.values().filter(|time| time.is_none()).count();
    format!(
        "{count} key{}, write key {write} since {}{next}, {staged} staged",
        plural(count),
        since.unwrap_or_default(),
    )
}

/// What to do when the container cannot be read.
fn fix(
    error: &ContainerError,
    session: &Session,
    endpoint: &Endpoint,
    container: &Container,
) -> String {
    match (error, session.account().access_rules()) {
        (ContainerError::Denied(refusal), Some(rules))
            if refusal.problem.status() == Some(StatusCode::UNAUTHORIZED) =>
        {
            access_rules::container_refused(rules, &Base::of(endpoint.url()), container.id)
        }
        (ContainerError::Denied(_), _) => {
            "let the user read the container: `openstack acl user add --user USER_ID \
             CONTAINER_HREF`, or give it the role `member` in the container's project"
                .to_owned()
        }
        (ContainerError::NotFound(_), _) => {
            "look at it with `openstack secret container get CONTAINER_HREF`; if it is there as \
             another user, or in another region, correct the credentials or region in [Global], \
             else key-container"
                .to_owned()
        }
        _ => "write the id of a generic container that lists keys into key-container".to_owned(),
    }
}
