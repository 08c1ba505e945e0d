//! A kube-apiserver for each node, as far as a plugin can tell, and their etcd.
//!
//! It asks for the status every minute, every ten seconds when that is bad, and more rarely
//! where nothing has happened for some minutes; wraps a
//! new seed for each new key id; and unwraps whatever any server has stored.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::history::{Clockface, Dice};
use super::servers::Cloud;
use crate::envelope::Fingerprint;
use crate::key_id::KeyId;
use crate::keyring::{Keyring, MISS_WAIT};
use crate::kms::Kms;
use crate::proto::v2::key_management_service_server::KeyManagementService as _;
use crate::proto::v2::{DecryptRequest, EncryptRequest, StatusRequest};

/// How long kube-apiserver waits for an answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Timers count milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// What a server has stored with a seed.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) id: KeyId,
    pub(super) node: usize,
    request: DecryptRequest,
    seed: Vec<u8>,
    /// Of the key that it was wrapped with.
    bytes: Fingerprint,
}

/// One server.
pub(super) struct ApiServer {
    pub(super) next_poll: Duration,
    /// The key id of the seed in use.
    pub(super) seed_id: Option<KeyId>,
    polls: u64,
}

/// What a call is judged by.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) cloud: Cloud,
    pub(super) begin: Instant,
    pub(super) node: usize,
    /// Nobody has dropped a key that is in use.
    pub(super) careful: bool,
}

type Call = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;

impl ApiServer {
    pub(super) fn new(first_poll: Duration) -> Self {
        Self {
            next_poll: first_poll,
            seed_id: None,
            polls: 0,
        }
    }

    /// The kube-apiserver or its sidecar has been restarted.
    pub(super) fn forget(&mut self) {
        self.seed_id = None;
    }

    /// A poll of the status, and what follows from it. Gives back what is stored now.
    pub(super) fn poll(
        &mut self,
        kms: &Kms,
        keyring: &Keyring,
        judge: &Judge,
        dice: &Dice,
        quiet: bool,
    ) -> Option<Stored> {
        self.polls += 1;
        let status = now(async { kms.status(Request::new(StatusRequest {})).await });
        let Some(status) = status else {
            judge.fail("rule 2: Status waits for something");
            return None;
        };
        let healthy = status.is_ok();
        self.next_poll += Duration::from_secs(match (healthy, quiet) {
            (false, false) => 10,
            (true, false) | (false, true) => 60,
            (true, true) => 1800,
        });
        let Ok(status) = status else {
            return None;
        };
        let id = status.into_inner().key_id;
        let same = self.seed_id.is_some_and(|known| known.to_string() == id);
        if same && !self.polls.is_multiple_of(64) {
            return None;
        }
        let seed: Vec<u8> = (0..32)
            .map(|_| u8::try_from(dice.below(256)).expect("a byte"))
            .collect();
        let request = EncryptRequest {
            plaintext: seed.clone(),
            uid: String::new(),
        };
        let Some(reply) = now(async { kms.encrypt(Request::new(request)).await }) else {
            judge.fail("rule 1: Encrypt waits though Status is good");
            return None;
        };
        let reply = match reply {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                judge.fail(&format!(
                    "rule 1: Encrypt fails though Status is good: {status}"
                ));
                return None;
            }
        };
        if reply.key_id != id {
            judge.fail("rule 1: Encrypt uses another key than Status says");
        }
        let id: KeyId = reply.key_id.parse().expect("a key id");
        self.seed_id = Some(id);
        let held = keyring.snapshot();
        let bytes = held
            .slot(&id)
            .and_then(|slot| slot.key())
            .expect("just used");
        Some(Stored {
            id,
            node: judge.node,
            request: DecryptRequest {
                ciphertext: reply.ciphertext,
                uid: String::new(),
                key_id: reply.key_id,
                annotations: reply.annotations,
            },
            seed,
            bytes: bytes.fingerprint(),
        })
    }
}

/// Asks `kms` to unwrap `stored`; what takes time goes on among `calls`.
pub(super) fn unwrap(
    stored: &Stored,
    kms: &Kms,
    keyring: &Keyring,
    same_bytes: bool,
    clock: std::time::Instant,
    judge: &Judge,
    calls: &mut JoinSet<()>,
) {
    let snapshot = keyring.snapshot();
    let slot = snapshot.slot(&stored.id);
    let usable = slot.is_some_and(|slot| {
        let expiry = snapshot.max_cache_age().and_then(|age| slot.expiry(age));
        slot.key().is_some() && expiry.is_none_or(|expiry| clock < expiry)
    });
    let ready = keyring.status().is_ok();
    let (kms, request) = (kms.clone(), Request::new(stored.request.clone()));
    let mut call: Call = Box::pin(async move {
        let reply = kms.decrypt(request).await?;
        Ok(reply.into_inner().plaintext)
    });
    let seed = stored.seed.clone();
    match (poll_once(&mut call), usable) {
        (Poll::Ready(Ok(plain)), true) if plain == seed => {}
        (Poll::Ready(Err(_)), true) if !same_bytes => {}
        (Poll::Ready(Err(status)), false) if slot.is_none() => {
            if status.code() != Code::FailedPrecondition {
                judge.fail(&format!("rule 8: {status} for a key outside the ring"));
            }
            if judge.careful && ready {
                judge.fail(&format!(
                    "rule 3: {} is read on a ready node, and refused",
                    stored.id
                ));
            }
        }
        (Poll::Ready(Err(status)), false) if status.code() == Code::Unavailable => {}
        (Poll::Pending, false) => {
            let judge = judge.clone();
            calls.spawn(async move { judge.wait(call, seed).await });
        }
        (Poll::Pending, true) => judge.fail("rule 2: Decrypt waits for a key that is held"),
        (Poll::Ready(outcome), _) => {
            let outcome = outcome.map(|_| "some bytes");
            judge.fail(&format!(
                "rule 2: Decrypt gives {outcome:?}; usable: {usable}"
            ));
        }
    }
}

impl Judge {
    pub(super) fn fail(&self, text: &str) {
        let at = Clockface(self.begin.elapsed().as_secs());
        self.cloud
            .complain(format!("{text} (node {}, {at})", self.node));
    }

    async fn wait(self, call: Call, seed: Vec<u8>) {
        let begin = Instant::now();
        let outcome = tokio::time::timeout(DEADLINE, call).await;
        let took = begin.elapsed();
        if took > MISS_WAIT + TICK {
            self.fail(&format!(
                "rule 2: who misses a key is answered after {took:?}"
            ));
        }
        match outcome {
            Ok(Ok(plain)) if plain == seed => {}
            Ok(Err(status)) if status.code() == Code::Unavailable => {}
            // It has left the ring meanwhile.
            Ok(Err(status)) if status.code() == Code::FailedPrecondition && !self.careful => {}
            // Barbican has given other bytes to a process that never had the right ones.
            Ok(Err(status)) if status.code() == Code::InvalidArgument => {}
            Ok(Ok(_)) => self.fail("rule 2: Decrypt gives other bytes"),
            Ok(Err(status)) => self.fail(&format!("rule 2: Decrypt fails: {status}")),
            Err(_) => self.fail("rule 2: no answer within the deadline"),
        }
    }
}

impl Stored {
    pub(super) fn is_under(&self, bytes: Option<Fingerprint>) -> bool {
        bytes.is_none_or(|bytes| bytes == self.bytes)
    }
}

/// What a future gives without waiting.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn poll_once(call: &mut Call) -> Poll<Result<Vec<u8>, Status>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
