//! Barbican: a container, which lists the keys of a ring.
//!
//! Used by `openstack`. Invariant: nothing that a container says chooses who is asked,
//! or for more than the secrets that it names.

use serde::Deserialize;
use serde::de::MapAccess;

use super::barbican::{DESCRIPTION_BYTES, description, get, url};
use super::catalog::Endpoint;
use super::error::{Error, Problem, RequestError};
use super::http::Http;
use super::json::{self, FromJson, optional};
use super::keystone::{Session, printable};
use super::retry::{Budget, Timing};
use crate::instruments::Upstream;
use crate::key_id::ContainerId;
use crate::keyring::{ListError, Listing, Reference};

/// What Barbican records about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: Option<String>,
    /// Such as `generic`, the only type whose references can be changed.
    pub kind: Option<String>,
    /// `None` when the answer has no list of references.
    listing: Option<Listing>,
}

impl Container {
    /// The references that it has.
    ///
    /// # Errors
    /// When it cannot be a list of keys.
    pub fn listing(self) -> Result<Listing, ContainerError> {
        match self.kind.as_deref() {
            Some("generic") => self.listing.ok_or(ContainerError::NoList),
            Some(kind) => Err(ContainerError::NotGeneric(kind.to_owned())),
            None => Err(ContainerError::NoList),
        }
    }
}

/// Why a container could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// As for a key.
    #[error(transparent)]
    Upstream(Error),
    /// Barbican knows us and refuses this container.
    #[error("{0}; {DENIED_HINT}")]
    Denied(RequestError),
    /// Barbican has no such container.
    #[error("{0}; {NOT_FOUND_HINT}")]
    NotFound(RequestError),
    /// It is of a type that cannot be changed.
    #[error(
        "the container is of type {0}; only the references of a generic one can be changed: make \
         one with `openstack secret container create --type generic` and write its id into \
         key-container"
    )]
    NotGeneric(String),
    /// More than is read.
    #[error(
        "the description of the container is longer than {} bytes: remove references that nobody \
         needs",
        DESCRIPTION_BYTES
    )]
    TooLarge,
    /// Success, but no container's description.
    #[error("success, but the answer is not the description of a container")]
    NoList,
}

const DENIED_HINT: &str = "an application credential with access rules needs one for GET of this \
     path, and a user who has only the role `reader` a read ACL on the container: `openstack acl \
     user add --user USER_ID CONTAINER_HREF`";

const NOT_FOUND_HINT: &str = "the container was deleted or is in another region; the keys that are \
     held stay in use: make a new container of them, and write its id into key-container";

impl From<Error> for ContainerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied { refusal } => Self::Denied(refusal),
            Error::NotFound(error) => Self::NotFound(error),
            Error::Unavailable(RequestError {
                problem: Problem::TooLong { .. },
                ..
            }) => Self::TooLarge,
            Error::Unavailable(RequestError {
                problem: Problem::Reply(_),
                ..
            }) => Self::NoList,
            other => Self::Upstream(other),
        }
    }
}

impl From<ContainerError> for ListError {
    fn from(error: ContainerError) -> Self {
        match error {
            ContainerError::Upstream(error) => Self::Upstream(error.into()),
            ContainerError::Denied(_) => Self::Denied(error.into()),
            ContainerError::NotFound(_) => Self::NotFound(error.into()),
            ContainerError::NotGeneric(_) => Self::NotGeneric(error.into()),
            ContainerError::TooLarge => Self::TooLarge(error.into()),
            ContainerError::NoList => Self::Invalid(error.into()),
        }
    }
}

/// Reads a container.
pub(super) async fn read(
    http: &Http,
    timing: &Timing,
    session: &Session,
    endpoint: &Endpoint,
    id: ContainerId,
    budget: Budget,
) -> Result<Container, Error> {
    let url = url(endpoint, "containers", id, "")?;
    let call = get(&url, endpoint, session, Upstream::Container);
    let reply: Reply = description(http, timing, endpoint, &call, budget).await?;
    Ok(reply.into())
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "optional")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    secret_refs: Option<Vec<ReferenceReply>>,
}

/// A name may be missing, which Barbican allows.
#[derive(Deserialize)]
struct ReferenceReply {
    #[serde(default, deserialize_with = "optional")]
    name: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    secret_ref: Option<String>,
}

impl FromJson for ReferenceReply {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl From<Reply> for Container {
    fn from(reply: Reply) -> Self {
        let reference = |reference: ReferenceReply| Reference {
            name: reference.name.unwrap_or_default(),
            secret_ref: reference.secret_ref.unwrap_or_default(),
        };
        let listing = |references: Vec<ReferenceReply>| Listing {
            references: references.into_iter().map(reference).collect(),
        };
        Self {
            name: printable(reply.name.as_ref()),
            kind: printable(reply.kind.as_ref()),
            listing: reply.secret_refs.map(listing),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(body: &str) -> Option<Container> {
        let reply: Reply = serde_json::from_str(body).ok()?;
        Some(reply.into())
    }

    #[test]
    fn a_container_is_read_as_barbican_writes_it() {
        let body = r#"{"name":"k8s","type":"generic","status":"ACTIVE","creator_id":"c","secret_refs":[
            {"name":"staged","secret_ref":"http://b/v1/secrets/1"},
            {"secret_ref":"http://b/v1/secrets/2"},{"name":null,"secret_ref":7},"x"],
            "consumers":[{"a":1}],"container_ref":"http://b/v1/containers/3"}"#;
        let read = container(body).expect("a container");
        let listing = read.listing().expect("a list");
        let shown: Vec<_> = listing
            .references
            .iter()
            .map(|one| (one.name.as_str(), one.secret_ref.as_str()))
            .collect();
        let (first, second) = ("http://b/v1/secrets/1", "http://b/v1/secrets/2");
        assert_eq!(shown, [("staged", first), ("", second), ("", "")]);
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused_and_not_taken_for_an_empty_one() {
        for body in [
            "{}",
            r#"{"type":"generic"}"#,
            r#"{"type":"generic","secret_refs":{}}"#,
            r#"{"type":"generic","secret_refs":null}"#,
            r#"{"type":7,"secret_refs":[]}"#,
        ] {
            let read = container(body).expect("JSON");
            let refused = read.listing();
            assert!(matches!(refused, Err(ContainerError::NoList)), "{body}");
        }
        for kind in ["rsa", "certificate"] {
            let body = format!(r#"{{"type":"{kind}","secret_refs":[]}}"#);
            let refused = container(&body).expect("JSON").listing();
            assert!(matches!(refused, Err(ContainerError::NotGeneric(_))));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_a_container_or_is_refused(body in "\\PC{0,200}") {
            let _ = container(&body).map(Container::listing);
        }
    }
}
