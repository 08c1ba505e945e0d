//! Bodies of requests and answers.
//!
//! Used by `http`. Invariant: no more of an answer is passed on than the caller allows.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

/// How much of an error's body is read.
pub(super) const ERROR_BODY_BYTES: usize = 8 * 1024;

/// Why a body was not read to its end.
pub(super) enum Unread {
    /// It is longer than the limit.
    TooLong,
    /// The connection broke.
    Broken(Box<dyn StdError + Send + Sync>),
}

/// The body of an answer.
pub(super) trait Answer:
    Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin
{
}

impl<B> Answer for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin
{
}

/// Passes the body to `sink`; what lies beyond `cap` is not passed on.
pub(super) async fn read<B: Answer>(
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
        let frame = frame.map_err(|error| Unread::Broken(error.into()))?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        sink(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        room = room.checked_sub(chunk.len()).ok_or(Unread::TooLong)?;
    }
    Ok(())
}

/// A body that stays in locked memory until the connection copies it out.
pub(in crate::openstack) fn shared_body<T: AsRef<[u8]> + Send + Sync + 'static>(
    body: &Arc<T>,
) -> Bytes {
    struct Shared<T>(Arc<T>);
    impl<T: AsRef<[u8]>> AsRef<[u8]> for Shared<T> {
        fn as_ref(&self) -> &[u8] {
            (*self.0).as_ref()
        }
    }
    Bytes::from_owner(Shared(Arc::clone(body)))
}

/// The expected type of an answer's body.
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
