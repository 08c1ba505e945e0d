use super::*;
use crate::secret::KekWriter;

fn id(last: u8) -> KeyId {
    format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
        .parse()
        .expect("a UUID")
}

fn ring(write: u8, decrypt: &[u8]) -> Ring {
    Ring {
        write: Some(id(write)),
        decrypt: decrypt.iter().map(|last| id(*last)).collect(),
        container: None,
        require_authentication: false,
        revalidate_interval: Duration::from_secs(300),
        max_cache_age: None,
    }
}

fn key(byte: u8) -> Arc<WrappingKey> {
    let mut writer = KekWriter::new();
    writer.push(&[byte; 32]);
    Arc::new(WrappingKey::new(&writer.finish().expect("32 bytes")))
}

#[test]
fn a_new_ring_holds_nothing_and_says_it_is_being_loaded() {
    let snapshot = Snapshot::new(&ring(1, &[2]));
    assert!(!snapshot.holds_any());
    let slot = snapshot.slot(&id(2)).expect("of the ring");
    assert_eq!(slot.problem(), Some(KeyProblem::Pending));
    assert!(snapshot.slot(&id(3)).is_none());
}

#[test]
fn a_failed_confirmation_keeps_the_key() {
    let now = Instant::now();
    let snapshot = Snapshot::new(&ring(1, &[])).loaded(&id(1), key(1), now);
    let snapshot = snapshot.failing(&id(1), KeyProblem::NotFound);
    let slot = snapshot.slot(&id(1)).expect("of the ring");
    assert!(slot.key().is_some());
    assert_eq!(slot.problem(), Some(KeyProblem::NotFound));
    assert_eq!(slot.confirmed(), Some(now));
}

#[test]
fn a_key_is_wiped_at_max_cache_age_and_not_a_nanosecond_earlier() {
    let age = Duration::from_secs(600);
    let now = Instant::now();
    let nearly = age.saturating_sub(Duration::from_nanos(1));
    let snapshot = Snapshot::new(&ring(1, &[2]))
        .loaded(&id(1), key(1), now)
        .loaded(&id(2), key(2), now + Duration::from_secs(1));
    assert_eq!(snapshot.next_expiry(age), Some(now + age));
    assert!(snapshot.expired(age, now + nearly).is_none());
    let (next, wiped) = snapshot
        .expired(age, now + age)
        .expect("the first key is too old");
    assert_eq!(wiped, [(id(1), KeyProblem::Unconfirmed)]);
    let slot = next.slot(&id(1)).expect("of the ring");
    assert!(slot.key().is_none());
    assert_eq!(slot.problem(), Some(KeyProblem::Unconfirmed));
    assert!(next.slot(&id(2)).expect("of the ring").key().is_some());
}

#[test]
fn a_key_that_is_wiped_goes_on_saying_what_kept_it_from_being_confirmed() {
    let age = Duration::from_secs(600);
    let now = Instant::now();
    let snapshot = Snapshot::new(&ring(1, &[2]))
        .loaded(&id(1), key(1), now)
        .loaded(&id(2), key(2), now)
        .failing(&id(1), KeyProblem::Login);
    let (next, wiped) = snapshot.expired(age, now + age).expect("both are too old");
    let problems = [(id(1), KeyProblem::Login), (id(2), KeyProblem::Unconfirmed)];
    assert_eq!(wiped, problems);
    for (id, problem) in problems {
        let slot = next.slot(&id).expect("of the ring");
        assert!(slot.key().is_none());
        assert_eq!(slot.problem(), Some(problem));
    }
}

#[test]
fn a_new_ring_keeps_held_keys_and_drops_those_it_does_not_name() {
    let now = Instant::now();
    let before = Snapshot::new(&ring(1, &[2]))
        .loaded(&id(1), key(1), now)
        .loaded(&id(2), key(2), now);
    let next = ring(3, &[1]);
    let staged = Snapshot::new(&next).loaded(&id(3), key(3), now);
    let after = before.replaced_by(&next, &staged);
    assert_eq!(after.write_id(), Some(id(3)));
    assert!(after.slot(&id(3)).expect("of the ring").key().is_some());
    assert!(after.slot(&id(1)).expect("of the ring").key().is_some());
    assert!(after.slot(&id(2)).is_none());
}
