//! Bodies of requests and answers.
//!
//! Used by `http`. Invariant: no more of an answer is passed on than the caller allows.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// How much of an error's body is read.
pub(super) const ERROR_BODY_BYTES: usize = 8 * 1024;

/// Why a body was not read to its end.
pub(super) enum Unread {
    /// It is longer than the limit.
    TooLong,
    /// The connection broke.
    Broken(hyper::Error),
}

/// Passes the body to `sink`; what lies beyond `cap` is not passed on.
pub(super) async fn read(
    mut body: Incoming,
    cap: usize,
    sink: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), Unread> {
    let mut room = cap;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > cap && cap != ERROR_BODY_BYTES {
        return Err(Unread::TooLong);
    }
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(Unread::Broken)?.into_data() else {
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
