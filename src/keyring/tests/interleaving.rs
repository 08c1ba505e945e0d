//! Two readers and the writer of snapshots, in every order in which they can meet.
//!
//! The readers are threads that stop before they look at the snapshot, and again with it
//! in hand, when they ask for the time. Who goes on is decided here, once for each order.
//! (loom and its like see nothing inside `arc-swap`, which has its own atomics.)

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Condvar;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use super::*;

/// How many snapshots there are, the first included.
const VERSIONS: usize = 3;

thread_local! {
    /// Of a thread that is a reader here.
    static TURN: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

/// Stops a reader until it is its turn.
pub(in crate::keyring) fn pause() {
    TURN.with_borrow(|turn| {
        if let Some((turns, reader)) = turn {
            turns.pass();
            turns.wait_for(Some(*reader));
        }
    });
}

/// Whose turn it is: a reader's, or nobody's but the test's.
#[derive(Default)]
struct Turns(Mutex<Option<usize>>, Condvar);

impl Turns {
    fn set(&self, turn: Option<usize>) {
        *self.0.lock().expect("not poisoned") = turn;
        self.1.notify_all();
    }

    fn pass(&self) {
        self.set(None);
    }

    fn wait_for(&self, turn: Option<usize>) {
        let now = self.0.lock().expect("not poisoned");
        let at_turn = self.1.wait_while(now, |now| *now != turn);
        drop(at_turn.expect("not poisoned"));
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Status,
    WriteKey,
    OldKey,
}

/// What a call was told: the id, which key it was given, and the policy with it.
type Told = Result<(Option<KeyId>, Option<u8>, Option<Untagged>), KeyError>;

impl Call {
    fn make(self, keyring: &Keyring) -> Told {
        match self {
            Self::Status => keyring.status().map(|id| (Some(id), None, None)),
            Self::WriteKey => {
                at_once(keyring.write_key()).map(|it| (Some(it.id), Some(number(&it.key)), None))
            }
            Self::OldKey => at_once(keyring.key(&id(1)))
                .map(|it| (None, Some(number(&it.key)), Some(it.untagged))),
        }
    }

    /// What it is to be told by one version.
    fn expected(self, version: usize) -> Told {
        let write = [1, 2, 3][version];
        match self {
            Self::Status => Ok((Some(id(write)), None, None)),
            Self::WriteKey => Ok((Some(id(write)), Some(write), None)),
            // It leaves the ring in the end.
            Self::OldKey if version == 2 => Err(KeyError::NotInRing),
            Self::OldKey => Ok((None, Some(1), Some(policy(version)))),
        }
    }
}

/// A call that finds its key waits for nothing.
fn at_once<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a key that is held was waited for"),
    }
}

fn number(key: &WrappingKey) -> u8 {
    (1..=3)
        .find(|byte| key.is_made_from(&kek(*byte)))
        .expect("one of the keys")
}

fn policy(version: usize) -> Untagged {
    [Untagged::Accept, Untagged::Refuse, Untagged::Accept][version]
}

fn kek(byte: u8) -> Kek {
    let mut writer = KekWriter::new();
    writer.push(&[byte; 32]);
    writer.finish().expect("32 bytes")
}

/// A ring whose write key is rotated, and then rotated and cleaned.
fn versions() -> [Arc<Snapshot>; VERSIONS] {
    let now = std::time::Instant::now();
    let mut before: Option<Snapshot> = None;
    let keys: [(u8, &[u8]); VERSIONS] = [(1, &[2, 3]), (2, &[1, 3]), (3, &[2])];
    [0, 1, 2].map(|version| {
        let (write, decrypt) = keys[version];
        let mut ring = live(write, decrypt).ring;
        ring.max_cache_age = Some(Duration::from_secs(3600));
        ring.require_authentication = policy(version) == Untagged::Refuse;
        let empty = Snapshot::new(&ring);
        let next = match &before {
            Some(before) => before.replaced_by(&ring, &empty),
            None => (1..=3).fold(empty, |held, byte| {
                held.loaded(&id(byte), Arc::new(WrappingKey::new(&kek(byte))), now)
            }),
        };
        before = Some(next.clone());
        Arc::new(next)
    })
}

/// Keys that nobody refreshes; asking for the time is a place to stop.
fn keyring(first: &Arc<Snapshot>) -> Keyring {
    let begin = std::time::Instant::now();
    let now = move || {
        pause();
        begin
    };
    let clock = Clock::new(now, || std::time::UNIX_EPOCH);
    let report = Report::new(&live(1, &[2, 3]), clock.wall());
    Keyring {
        shared: Arc::new(Shared {
            snapshot: ArcSwap::new(Arc::clone(first)),
            report: ArcSwap::from_pointee(report),
            clock,
            begin,
            second: AtomicU64::new(1),
            status_missed: Notify::new(),
        }),
        requests: mpsc::channel(1).0,
        notes: true,
    }
}

/// Decides who goes on: as written down, and then the first who can.
#[derive(Default)]
struct Order {
    /// What was chosen, and of how many.
    choices: Vec<(usize, usize)>,
    made: usize,
}

impl Order {
    fn choose(&mut self, among: usize) -> usize {
        if self.made == self.choices.len() {
            self.choices.push((0, among));
        }
        self.made += 1;
        self.choices[self.made - 1].0
    }

    /// The next one, until all have been.
    fn next(mut self) -> Option<Self> {
        while let Some((choice, among)) = self.choices.pop() {
            if choice + 1 < among {
                self.choices.push((choice + 1, among));
                return Some(Self { made: 0, ..self });
            }
        }
        None
    }
}

/// A call of a reader: how many snapshots were out when it began and when it ended, and
/// what it was told; nothing, if it crashed.
struct Made {
    begun: usize,
    ended: usize,
    told: Option<Told>,
}

/// Says that a reader has ended, however it ended.
struct Ending<'a>(&'a Turns, &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        TURN.take();
        self.1.store(true, Ordering::SeqCst);
        self.0.pass();
    }
}

/// Plays one order.
fn play(calls: [Call; 2], versions: &[Arc<Snapshot>; VERSIONS], order: &mut Order) -> [Made; 2] {
    let keyring = keyring(&versions[0]);
    let turns = Arc::new(Turns::default());
    let over = [const { AtomicBool::new(false) }; 2];
    let told = [const { Mutex::new(None) }; 2];
    let (mut begun, mut ended) = ([None; 2], [None; 2]);
    std::thread::scope(|scope| {
        for reader in [0, 1] {
            let (keyring, turns) = (keyring.clone(), Arc::clone(&turns));
            let (over, told) = (&over[reader], &told[reader]);
            scope.spawn(move || {
                turns.wait_for(Some(reader));
                TURN.set(Some((Arc::clone(&turns), reader)));
                let _ending = Ending(&turns, over);
                *told.lock().expect("not poisoned") = Some(calls[reader].make(&keyring));
            });
        }
        let mut published = 0;
        loop {
            let readers = [0, 1].into_iter();
            let mut able: Vec<_> = readers.filter(|it| ended[*it].is_none()).collect();
            if published + 1 < VERSIONS {
                able.push(2);
            }
            if able.is_empty() {
                return;
            }
            let next = able[order.choose(able.len())];
            if next == 2 {
                published += 1;
                let snapshot = Arc::clone(&versions[published]);
                keyring.shared.snapshot.store(snapshot);
                continue;
            }
            begun[next].get_or_insert(published);
            turns.set(Some(next));
            turns.wait_for(None);
            if over[next].load(Ordering::SeqCst) {
                ended[next] = Some(published);
            }
        }
    });
    [0, 1].map(|reader| Made {
        begun: begun[reader].expect("all have ended"),
        ended: ended[reader].expect("all have ended"),
        told: told[reader].lock().expect("not poisoned").take(),
    })
}

#[test]
fn a_reader_is_told_by_one_snapshot_whoever_comes_between() {
    let versions = versions();
    let mut orders = 0;
    for calls in [
        [Call::Status, Call::Status],
        [Call::Status, Call::WriteKey],
        [Call::WriteKey, Call::WriteKey],
        [Call::WriteKey, Call::OldKey],
        [Call::OldKey, Call::OldKey],
        [Call::OldKey, Call::Status],
    ] {
        let mut next = Some(Order::default());
        while let Some(mut order) = next.take() {
            for (call, made) in calls.into_iter().zip(play(calls, &versions, &mut order)) {
                let told = made.told.expect("the reader has crashed");
                let whole = (made.begun..=made.ended).any(|it| call.expected(it) == told);
                assert!(
                    whole,
                    "{call:?} of {calls:?}: {told:?}, {:?}",
                    order.choices
                );
            }
            orders += 1;
            next = order.next();
        }
    }
    // Three steps of each reader, fewer where the key has left, and two of the writer.
    assert!(orders > 3000, "{orders}");
}
