use super::*;

const INTERVAL: Duration = Duration::from_secs(300);

fn id(last: u8) -> KeyId {
    format!("b5309dfb-b326-4148-b0ad-e9cd1ec223{last:02x}")
        .parse()
        .expect("a UUID")
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

/// The clock that only goes on.
#[derive(Clone, Copy)]
struct Time(Instant);

impl Time {
    fn at(self, second: u64) -> Instant {
        self.0 + Duration::from_secs(second)
    }
}

fn listed(keys: &[(u8, Option<u64>)]) -> BTreeMap<KeyId, Option<SystemTime>> {
    let key = |(last, time): &(u8, Option<u64>)| (id(*last), time.map(at));
    keys.iter().map(key).collect()
}

fn held(_: &KeyId) -> Payload {
    Payload {
        held: true,
        ..Payload::default()
    }
}

/// Everything but these keys is held.
fn without(refused: &'static [u8], passing: &'static [u8]) -> impl Fn(&KeyId) -> Payload {
    move |key| {
        let among = |list: &[u8]| list.iter().any(|last| id(*last) == *key);
        Payload {
            held: !among(refused) && !among(passing),
            refused: among(refused),
            confirmed: None,
        }
    }
}

/// After one reading at second 1000.
fn roster(keys: &[(u8, Option<u64>)]) -> (Roster, Time) {
    let mut roster = Roster::default();
    let time = Time(Instant::now());
    roster.read(&listed(keys), INTERVAL, at(1000), time.at(1000));
    (roster, time)
}

fn names(roster: &Roster) -> Vec<KeyId> {
    roster.keys().map(|(id, _)| *id).collect()
}

#[test]
fn the_write_key_is_the_one_with_the_latest_time_that_has_come() {
    let (mut roster, _) = roster(&[(1, Some(10)), (2, Some(900)), (3, Some(1001)), (4, None)]);
    assert_eq!(roster.write(at(1000), held), Some(id(2)));
    assert_eq!(roster.next_activation(at(1000)), Some((at(1001), id(3))));
    assert_eq!(roster.write(at(1001), held), Some(id(3)));
    assert_eq!(roster.next_activation(at(1001)), None);
}

#[test]
fn between_equal_times_the_greater_uuid_counts() {
    let (mut roster, _) = roster(&[(2, Some(10)), (7, Some(10)), (5, Some(10))]);
    assert_eq!(roster.write(at(1000), held), Some(id(7)));
}

#[test]
fn a_key_without_a_time_is_never_the_write_key() {
    let (mut roster, _) = roster(&[(1, Some(10)), (9, None)]);
    assert_eq!(roster.write(at(u32::MAX.into()), held), Some(id(1)));
    let (mut staged, _) = self::roster(&[(9, None), (8, Some(2000))]);
    assert_eq!(staged.write(at(1000), held), None);
    assert!(!staged.has_active(at(1000)));
    assert!(staged.has_active(at(2000)));
}

#[test]
fn a_key_whose_time_has_come_and_that_is_not_held_never_becomes_the_write_key() {
    let (mut roster, time) = roster(&[(1, Some(10))]);
    assert_eq!(roster.write(at(1000), held), Some(id(1)));
    let more = listed(&[(1, Some(10)), (2, Some(900)), (3, Some(950))]);
    roster.read(&more, INTERVAL, at(1001), time.at(1001));
    for _ in 0..3 {
        assert_eq!(roster.write(at(1001), without(&[3], &[2])), Some(id(1)));
    }
    assert_eq!(
        roster.write(at(1001), without(&[3], &[])),
        Some(id(2)),
        "one that cannot be loaded does not hold the others up"
    );
    assert_eq!(roster.write(at(1001), held), Some(id(3)));
}

#[test]
fn at_the_beginning_a_key_that_can_still_come_is_waited_for() {
    let keys = [(1, Some(10)), (2, Some(900)), (3, Some(950))];
    let (mut one, _) = roster(&keys);
    assert_eq!(one.write(at(1000), without(&[], &[3])), Some(id(3)));
    assert_eq!(one.write(at(1000), without(&[3], &[])), Some(id(2)));
    let (mut none, _) = roster(&keys);
    assert_eq!(none.write(at(1000), without(&[1, 2, 3], &[])), Some(id(3)));
}

#[test]
fn the_write_key_never_goes_back() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(900))]);
    assert_eq!(roster.write(at(1000), held), Some(id(2)));
    for keys in [
        // Its reference is gone; a key that was active before it remains.
        listed(&[(1, Some(10))]),
        // Another one, between the two.
        listed(&[(1, Some(10)), (3, Some(899))]),
        // Its time was put back.
        listed(&[(1, Some(10)), (2, Some(5)), (3, Some(899))]),
        // The clock was put back.
        listed(&[(1, Some(10)), (2, Some(900))]),
        listed(&[]),
    ] {
        for second in [2000, 3000, 4000] {
            roster.read(&keys, INTERVAL, at(500), time.at(second));
            roster.drop_retired(|_| Payload {
                held: true,
                refused: false,
                confirmed: Some(time.at(second)),
            });
            assert_eq!(roster.write(at(500), held), Some(id(2)));
            assert!(names(&roster).contains(&id(2)), "and is never dropped");
        }
    }
}

#[test]
fn a_key_that_is_taken_back_before_its_time_does_not_become_the_write_key() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(2000))]);
    assert_eq!(roster.write(at(1000), held), Some(id(1)));
    roster.read(&listed(&[(1, Some(10))]), INTERVAL, at(1500), time.at(1500));
    assert_eq!(roster.next_activation(at(1500)), None);
    assert_eq!(roster.write(at(2000), held), Some(id(1)));
    // An emptied container activates nothing either.
    let (mut emptied, time) = self::roster(&[(1, Some(10)), (2, Some(2000))]);
    assert_eq!(emptied.write(at(1000), held), Some(id(1)));
    emptied.read(&listed(&[]), INTERVAL, at(1500), time.at(1500));
    assert_eq!(emptied.write(at(2000), held), Some(id(1)));
}

#[test]
fn a_key_is_dropped_after_two_readings_an_interval_apart_when_barbican_gives_it_out() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(900))]);
    roster.write(at(1000), held);
    let retired = listed(&[(2, Some(900))]);
    let confirmed = |second| {
        move |_: &KeyId| Payload {
            held: true,
            refused: false,
            confirmed: Some(time.at(second)),
        }
    };
    for second in [2000, 2001, 2299] {
        let leaving = roster.read(&retired, INTERVAL, at(second), time.at(second));
        assert_eq!(leaving, [], "not an interval apart");
        roster.drop_retired(confirmed(second));
        assert_eq!(names(&roster), [id(1), id(2)]);
    }
    let leaving = roster.read(&retired, INTERVAL, at(2300), time.at(2300));
    assert_eq!(leaving, [id(1)], "it is asked for once more");
    roster.drop_retired(confirmed(2299));
    assert_eq!(names(&roster), [id(1), id(2)], "it may be gone since");
    roster.drop_retired(confirmed(2301));
    assert_eq!(names(&roster), [id(2)]);
}

#[test]
fn a_key_whose_secret_is_gone_is_never_dropped() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(900))]);
    roster.write(at(1000), held);
    let last = time.at(1999);
    for second in (2000..100_000).step_by(300) {
        let listed = listed(&[(2, Some(900))]);
        roster.read(&listed, INTERVAL, at(second), time.at(second));
        roster.drop_retired(|_| Payload {
            held: true,
            refused: true,
            confirmed: Some(last),
        });
    }
    assert_eq!(names(&roster), [id(1), id(2)]);
}

#[test]
fn a_key_that_is_not_held_is_dropped_without_being_asked_for() {
    let (mut roster, time) = roster(&[(1, Some(10)), (3, None)]);
    roster.write(at(1000), held);
    for second in [2000, 2300] {
        roster.drop_retired(without(&[3], &[]));
        assert_eq!(names(&roster), [id(1), id(3)]);
        roster.read(
            &listed(&[(1, Some(10))]),
            INTERVAL,
            at(second),
            time.at(second),
        );
    }
    roster.drop_retired(without(&[3], &[]));
    assert_eq!(names(&roster), [id(1)]);
}

#[test]
fn a_retirement_that_is_undone_starts_from_the_beginning() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(900))]);
    roster.write(at(1000), held);
    let (whole, retired) = (
        listed(&[(1, None), (2, Some(900))]),
        listed(&[(2, Some(900))]),
    );
    // A replica that lags behind answers now and then.
    for round in 0..20 {
        let second = 2000 + round * 600;
        roster.read(&retired, INTERVAL, at(second), time.at(second));
        roster.read(&whole, INTERVAL, at(second), time.at(second + 299));
        roster.drop_retired(|_| Payload {
            held: true,
            refused: false,
            confirmed: Some(time.at(second + 300)),
        });
        assert_eq!(names(&roster), [id(1), id(2)]);
    }
}

#[test]
fn a_reading_without_a_write_key_misses_nothing_and_still_adds() {
    let (mut roster, time) = roster(&[(1, Some(10)), (2, Some(900))]);
    roster.write(at(1000), held);
    for second in [2000, 3000, 4000] {
        roster.read(&listed(&[(5, None)]), INTERVAL, at(second), time.at(second));
        roster.drop_retired(|_| Payload {
            held: true,
            refused: false,
            confirmed: Some(time.at(second)),
        });
        assert!(!roster.has_active(at(second)));
    }
    assert_eq!(names(&roster), [id(1), id(2), id(5)]);
}

#[test]
fn the_write_key_of_a_reload_is_not_older_than_the_one_in_force() {
    let (mut coming, _) = roster(&[(1, Some(10))]);
    coming.write(at(1000), held);
    let (mut in_force, _) = roster(&[(1, Some(10)), (2, Some(900))]);
    in_force.write(at(1000), held);
    coming.keep_up_with(&in_force);
    assert_eq!(coming.write(at(1000), held), Some(id(2)));
    in_force.keep_up_with(&Roster::default());
    assert_eq!(in_force.write(at(1000), held), Some(id(2)));
}
