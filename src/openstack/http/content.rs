//! What kind of content a request asks for, and what is certainly something else.

/// The content that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::openstack) enum ExpectedBody {
    Json,
    Bytes,
}

impl ExpectedBody {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
        }
    }

    /// Servers are free with content types, so only what is certainly something
    /// else is refused: above all the pages of proxies and captive portals.
    pub(super) fn excludes(self, content_type: &str) -> bool {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        let markup = kind == "text/html" || kind.ends_with("/xml") || kind.ends_with("+xml");
        let json = kind.ends_with("/json") || kind.ends_with("+json");
        markup || (self == Self::Bytes && json)
    }
}
