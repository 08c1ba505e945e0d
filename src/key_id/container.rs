//! `ContainerId`: names the Barbican container that lists the keys of a ring.
//!
//! As with [`super::KeyId`], only a parsed value ever reaches a URL.

use std::fmt;

use super::uuid::{Uuid, parse_uuid};

/// The UUID of a container in Barbican.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Uuid);

/// Why a text is not a container's id. Each variant's text says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerIdError {
    /// Not the 8-4-4-4-12 form.
    #[error(
        "it is not the UUID of a container, like b5309dfb-b326-4148-b0ad-e9cd1ec223a8 (`openstack \
         secret container list` shows it at the end of the container href)"
    )]
    Uuid,
    /// The href of a secret.
    #[error(
        "it is the href of a secret; write the container's, which `openstack secret container \
         list` shows, or use key-id for a single key"
    )]
    Secret,
}

impl ContainerId {
    /// Reads a UUID or a whole container href (`https://HOST/v1/containers/UUID`).
    ///
    /// # Errors
    /// When what stands at the place of the UUID is not one.
    pub fn from_reference(text: &str) -> Result<Self, ContainerIdError> {
        let text = text.trim();
        let last = match text.split_once("://") {
            None => text,
            Some((_, href)) => {
                let href = href.trim_end_matches('/');
                if href.contains("/secrets/") {
                    return Err(ContainerIdError::Secret);
                }
                let (_, last) = href
                    .rsplit_once("/containers/")
                    .ok_or(ContainerIdError::Uuid)?;
                last
            }
        };
        parse_uuid(last)
            .map(|uuid| Self(Uuid(uuid)))
            .ok_or(ContainerIdError::Uuid)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8";

    #[test]
    fn a_container_is_named_by_its_uuid_or_its_href() {
        for text in [
            UUID.to_owned(),
            format!(" {} ", UUID.to_uppercase()),
            format!("https://cloud/key-manager/v1/containers/{UUID}"),
            format!("http://barbican:9311/v1/containers/{UUID}/"),
        ] {
            let id = ContainerId::from_reference(&text).expect("a container");
            assert_eq!(id.to_string(), UUID, "{text}");
        }
    }

    #[test]
    fn what_could_change_a_url_is_no_container() {
        for text in [
            "",
            "..",
            "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8_002",
            "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8/secrets",
            "https://cloud/v1/containers/7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8/secrets",
            "https://cloud/v1/orders/7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8",
        ] {
            let refused = ContainerId::from_reference(text);
            assert_eq!(refused, Err(ContainerIdError::Uuid), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_taken_for_a_container() {
        let href = format!("https://cloud/v1/secrets/{UUID}");
        let refused = ContainerId::from_reference(&href);
        assert_eq!(refused, Err(ContainerIdError::Secret));
    }
}
