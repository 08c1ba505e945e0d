//! Waiting for a state instead of for a time.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, also with ten programs waiting for each core.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and panics with `what` when there never is.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, look)
        .await
        .unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Looks until there is something to see, for at most `time`.
pub(crate) async fn within<T>(
    time: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Runs all of them at once: most tests here spend their time on waiting for servers.
pub(crate) async fn at_once<F: Future<Output = ()>>(all: impl IntoIterator<Item = F>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
