//! What systemd is told of a service with `Type=notify`: that the socket listens, the
//! state in one line, and that the process is alive (`sd_notify(3)`).
//!
//! Used by `cli`. Where systemd has asked for nothing (no `NOTIFY_SOCKET`), nothing is
//! sent. Best effort: a message that cannot be sent is lost.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::keyring::Keyring;

/// How often the state is looked at.
const STATE_INTERVAL: Duration = Duration::from_secs(2);

/// Says that the service is ready, then tells each change of `keyring`'s state. Where the
/// unit has a watchdog, reports to it as long as `is_alive` says so. Never ends.
///
/// Ready means that the socket listens: units ordered after this one may start. That
/// a key is held is part of the state, as an outage of OpenStack must not keep
/// kube-apiserver from starting.
pub async fn report(keyring: &Keyring, is_alive: impl AsyncFn(Duration) -> bool) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    send(&[NotifyState::Ready]);
    tokio::select! {
        never = report_state(keyring) => never,
        never = report_to_watchdog(is_alive) => never,
    }
}

/// Says that the service is about to end.
pub fn report_stopping() {
    send(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping: calls in flight finish"),
    ]);
}

async fn report_state(keyring: &Keyring) -> Infallible {
    let mut told = String::new();
    let mut ticks = tokio::time::interval(STATE_INTERVAL);
    loop {
        ticks.tick().await;
        let state = match keyring.status() {
            Ok(id) => format!("ready: write key {id}"),
            Err(error) => format!("not ready: {error}"),
        };
        if state != told {
            send(&[NotifyState::Status(&state)]);
            told = state;
        }
    }
}

/// At half of the watchdog's time, as `sd_watchdog_enabled(3)` recommends.
async fn report_to_watchdog(is_alive: impl AsyncFn(Duration) -> bool) -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let half = (limit / 2).max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval(half);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if is_alive(half).await {
            send(&[NotifyState::Watchdog]);
        } else {
            warn!(
                watchdog_seconds = limit.as_secs_f32(),
                "the socket does not answer: systemd is no longer told that the process is alive, \
                 and will restart it"
            );
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("systemd cannot be notified: {error}");
    }
}
