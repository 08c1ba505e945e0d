//! Where Barbican is: choosing an endpoint out of Keystone's service catalog.
//!
//! Used by `openstack`. Pure. Invariant: what is returned is an `http` or
//! `https` URL without user name and query, ending in `/v1`.

use std::collections::BTreeSet;
use std::fmt;

use http::Uri;
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};

use super::excerpt::{Excerpt, printable_url};
use super::json::{self, Element, FromJson, LONGEST_LIST, optional};
use crate::config::{Interface, escaped_url, redact};

/// Barbican's service type; there are no others (gophercloud knows none).
pub(super) const SERVICE_TYPE: &str = "key-manager";

/// How many other services are remembered by name, for a message.
const KINDS: usize = 64;

/// The part of a service catalog that leads to Barbican, or that says why nothing does.
/// Nothing else is kept.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    has_services: bool,
    has_barbican: bool,
    /// Barbican's.
    endpoints: Vec<CatalogEndpoint>,
    /// The types of the other services, the first ones by the alphabet.
    others: BTreeSet<String>,
}

impl FromJson for Catalog {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut catalog = Self::default();
        while let Some(Element(service)) = list.next_element()? {
            catalog.has_services = true;
            if let Some(service) = service {
                catalog.add(service);
            }
        }
        Ok(Some(catalog))
    }
}

impl Catalog {
    /// Whether it lists anything at all, as it does for a token of a project.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_services
    }

    fn add(&mut self, service: Service) {
        match service.kind {
            Some(kind) if kind == SERVICE_TYPE => {
                self.has_barbican = true;
                let room = LONGEST_LIST - self.endpoints.len();
                let endpoints = service.endpoints.into_iter().flatten();
                self.endpoints.extend(endpoints.take(room));
            }
            Some(kind) => {
                let shown = Excerpt::of_text(&kind).map(|shown| shown.to_string());
                self.others.extend(shown);
                if self.others.len() > KINDS {
                    self.others.pop_last();
                }
            }
            None => {}
        }
    }
}

/// One service, as long as it takes to read it.
#[derive(Deserialize)]
struct Service {
    #[serde(default, rename = "type", deserialize_with = "optional")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    endpoints: Option<Vec<CatalogEndpoint>>,
}

#[derive(Debug, Deserialize)]
struct CatalogEndpoint {
    #[serde(default, deserialize_with = "optional")]
    id: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    interface: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    region: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    region_id: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    url: Option<String>,
}

impl FromJson for Service {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl FromJson for CatalogEndpoint {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        json::object(object)
    }
}

impl CatalogEndpoint {
    fn fits(&self, interface: Interface, region: Option<&str>) -> bool {
        self.interface.as_deref() == Some(interface.as_str())
            && region.is_none_or(|expected| {
                self.region.as_deref() == Some(expected)
                    || self.region_id.as_deref() == Some(expected)
            })
    }
}

/// Barbican's base URL, up to and including `/v1`, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: Uri,
    source: Source,
}

/// Who says where Barbican is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The catalog, by the endpoint with this ID.
    Catalog(Option<String>),
    /// `key-manager-endpoint`.
    Setting,
}

impl Endpoint {
    /// By the cloud-config, which has checked it.
    pub fn of_setting(url: Uri) -> Self {
        let source = Source::Setting;
        Self { url, source }
    }

    #[cfg(test)]
    pub(crate) fn of_catalog(url: &str, id: Option<&str>) -> Self {
        Self {
            url: versioned(url).expect("a URL"),
            source: Source::Catalog(id.map(str::to_owned)),
        }
    }

    /// The URL.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Whether the cloud-config says so, and not the catalog.
    pub fn is_of_setting(&self) -> bool {
        self.source == Source::Setting
    }

    /// The endpoint's ID in the catalog, where it is fit for a command line.
    pub fn id(&self) -> Option<&str> {
        let Source::Catalog(Some(id)) = &self.source else {
            return None;
        };
        let plain = id.len() <= LONGEST_ID
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && !id.is_empty()).then_some(id)
    }

    /// Where it is configured, for messages.
    pub(super) fn place(&self) -> &'static str {
        match self.source {
            Source::Catalog(_) => "the catalog's URL for key-manager",
            Source::Setting => "key-manager-endpoint in [KeyManager]",
        }
    }
}

/// The URL, as it may be shown.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable_url(&self.url))
    }
}

/// Keystone's have 32 characters.
const LONGEST_ID: usize = 64;

/// Why the catalog does not lead to Barbican.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The token has no catalog: it is not scoped to a project.
    #[error(
        "the token has no service catalog, because it is not scoped to a project: set tenant-id \
         or tenant-name, or use an application credential"
    )]
    NoCatalog,
    /// The catalog has no Barbican.
    #[error(
        "the service catalog has no service of type {SERVICE_TYPE}; it has: {0}; check that \
         Barbican is installed and visible to this project"
    )]
    NoService(CatalogWords),
    /// Barbican is there, but not with this interface in this region.
    #[error(
        "Barbican has no {interface} endpoint{} in the service catalog; it has: {found}; set \
         region or os-endpoint-type accordingly",
        in_region(.region.as_deref())
    )]
    NoEndpoint {
        /// The interface that was looked for.
        interface: &'static str,
        /// The region that was looked for.
        region: Option<String>,
        /// The existing endpoints.
        found: CatalogWords,
    },
    /// The endpoint's URL cannot be used.
    #[error("Barbican's endpoint in the service catalog is not an http or https URL: {0}")]
    Url(CatalogWords),
}

fn in_region(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| {
        let region = redact::name(region);
        if region.is_redacted() {
            format!(" in the region that is configured ({region})")
        } else {
            format!(" in region \"{region}\"")
        }
    })
}

/// Words of a catalog, printable and not too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogWords(String);

impl CatalogWords {
    fn of(words: impl IntoIterator<Item = String>) -> Self {
        let words: BTreeSet<String> = words.into_iter().collect();
        let all = words.into_iter().collect::<Vec<_>>().join(", ");
        Self(match Excerpt::of_text(&all) {
            Some(shown) => shown.to_string(),
            None => "nothing".to_owned(),
        })
    }
}

impl fmt::Display for CatalogWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first endpoint of Barbican with this interface in this region, as
/// gophercloud takes it.
pub(super) fn endpoint(
    catalog: &Catalog,
    interface: Interface,
    region: Option<&str>,
) -> Result<Endpoint, EndpointError> {
    if !catalog.has_services {
        return Err(EndpointError::NoCatalog);
    }
    if !catalog.has_barbican {
        let others = catalog.others.iter().cloned();
        return Err(EndpointError::NoService(CatalogWords::of(others)));
    }
    let endpoints = || catalog.endpoints.iter();
    let Some(chosen) = endpoints().find(|endpoint| endpoint.fits(interface, region)) else {
        let shown = |endpoint: &CatalogEndpoint| {
            let interface = endpoint.interface.as_deref().unwrap_or("(none)");
            let region = endpoint.region.as_ref().or(endpoint.region_id.as_ref());
            format!("{interface} in {:?}", region.map_or("", String::as_str))
        };
        // Where the region is the mistake, other interfaces would only bury the right one.
        let near: Vec<_> = endpoints()
            .filter(|endpoint| endpoint.fits(interface, None))
            .collect();
        let found = if near.is_empty() {
            CatalogWords::of(endpoints().map(shown))
        } else {
            CatalogWords::of(near.into_iter().map(shown))
        };
        return Err(EndpointError::NoEndpoint {
            interface: interface.as_str(),
            region: region.map(str::to_owned),
            found,
        });
    };
    let url = chosen.url.as_deref().unwrap_or_default();
    let Some(url) = versioned(url) else {
        return Err(EndpointError::Url(CatalogWords::of([url_for_show(url)])));
    };
    let source = Source::Catalog(chosen.id.clone());
    Ok(Endpoint { url, source })
}

/// `url` with `/v1` at its end, once.
fn versioned(url: &str) -> Option<Uri> {
    let uri: Uri = escaped_url(url.trim()).parse().ok()?;
    let scheme = uri.scheme_str()?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = uri.authority()?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return None;
    }
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path);
    Uri::builder()
        .scheme(scheme)
        .authority(authority.clone())
        .path_and_query(format!("{path}/v1"))
        .build()
        .ok()
}

/// Without what stands before an `@`, which would be a password.
fn url_for_show(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("(user and password)@{rest}"),
        None => format!("{url:?}"),
    }
}

#[cfg(test)]
mod tests;
