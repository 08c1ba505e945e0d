//! A second connection beside one that stays silent.
//!
//! Used by `http` for urgent operations. The first request is never given up for being
//! slow: a slow server is as good as a quick one. But a connection from before an outage
//! may stay silent for ever, so the server is probed on others, with requests that cost it
//! nothing, and asked once more when it answers one. Invariant: however long the silence,
//! the request itself is under way twice at most, since each may be a login that fails and
//! counts towards a lockout.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// The outcome of the first `send`, or that of a second one, which begins when the first
/// has been silent for `silence` and a `probe` has been answered since. A probe that is
/// silent is repeated as often.
pub(super) async fn hedged<T, E, S, P>(
    silence: Duration,
    send: impl Fn() -> S,
    probe: impl Fn() -> P,
) -> Result<T, E>
where
    S: Future<Output = Result<T, E>>,
    P: Future<Output = bool>,
{
    let mut first = pin!(send());
    if let Ok(outcome) = tokio::time::timeout(silence, &mut first).await {
        return outcome;
    }
    let back = async { while !answers(silence, probe()).await {} };
    tokio::select! {
        outcome = &mut first => return outcome,
        () = back => {}
    }
    let mut second = pin!(send());
    // One that fails leaves the other its time.
    tokio::select! {
        outcome = &mut first => match outcome {
            Err(_) => second.await,
            answer => answer,
        },
        outcome = &mut second => match outcome {
            Err(_) => first.await,
            answer => answer,
        },
    }
}

/// Whether `probe` is answered; if not, this takes all of `silence`, however it fails.
async fn answers(silence: Duration, probe: impl Future<Output = bool>) -> bool {
    let probing = async {
        if !probe.await {
            std::future::pending::<()>().await;
        }
    };
    tokio::time::timeout(silence, probing).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(1);

    /// What a server does from its `back` on; before, it is silent.
    struct Server {
        begin: Instant,
        back: Duration,
        sent: Cell<u32>,
        probed: Cell<u32>,
    }

    impl Server {
        fn back_after(millis: u64) -> Self {
            Self {
                begin: Instant::now(),
                back: Duration::from_millis(millis),
                sent: Cell::new(0),
                probed: Cell::new(0),
            }
        }

        fn is_back(&self) -> bool {
            self.begin.elapsed() >= self.back
        }

        async fn ask(&self) -> Result<Duration, ()> {
            self.sent.set(self.sent.get() + 1);
            if !self.is_back() {
                pending::<()>().await;
            }
            sleep(Duration::from_millis(200)).await;
            Ok(self.begin.elapsed())
        }

        async fn probe(&self) -> bool {
            self.probed.set(self.probed.get() + 1);
            if !self.is_back() {
                pending::<()>().await;
            }
            true
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_back_is_found_within_a_second_and_asked_once_more() {
        for back in [1, 999, 1001, 1500, 7999] {
            let server = Server::back_after(back);
            let answer = hedged(SILENCE, || server.ask(), || server.probe()).await;
            let answer = answer.expect("an answer");
            let after = answer.saturating_sub(server.back);
            assert!(after <= Duration::from_millis(1210), "{back}: {after:?}");
            assert_eq!(server.sent.get(), 2, "{back}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_taken_and_the_request_sent_twice_at_most() {
        let sent = Cell::new(0);
        let slow = || {
            sent.set(sent.get() + 1);
            async {
                sleep(Duration::from_secs(6)).await;
                Ok::<_, ()>(())
            }
        };
        let begin = Instant::now();
        let answer = hedged(SILENCE, slow, || async { true }).await;
        assert_eq!(answer, Ok(()));
        assert_eq!(begin.elapsed(), Duration::from_secs(6));
        assert_eq!(sent.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_probed_once_a_second() {
        let server = Server::back_after(60_000);
        let refused = || async {
            server.probed.set(server.probed.get() + 1);
            false
        };
        let limit = Duration::from_millis(9_500);
        let outcome = timeout(limit, hedged(SILENCE, || server.ask(), refused)).await;
        assert!(outcome.is_err());
        assert_eq!((server.sent.get(), server.probed.get()), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_breaks_leaves_the_other_its_time() {
        let count = Cell::new(0);
        let first_breaks = || {
            count.set(count.get() + 1);
            let number = count.get();
            async move {
                let seconds = if number == 1 { 2 } else { 3 };
                sleep(Duration::from_secs(seconds)).await;
                if number == 1 {
                    Err("reset")
                } else {
                    Ok(number)
                }
            }
        };
        let answer = hedged(SILENCE, first_breaks, || async { true }).await;
        assert_eq!(answer, Ok(2));
        count.set(1);
        let alone = hedged(
            SILENCE,
            || async { Err::<(), _>("reset") },
            || async { true },
        )
        .await;
        assert_eq!(alone, Err("reset"));
    }
}
