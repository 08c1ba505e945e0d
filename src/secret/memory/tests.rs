use super::*;

#[test]
fn a_locked_value_is_what_was_built() {
    let mut locked = Locked::new_with(|| [5_u8; 100]);
    assert_eq!(*locked, [5; 100]);
    locked[3] = 9;
    assert_eq!(locked[3], 9);
    assert!(locked.protection() >= Protection::Unlocked);
}

#[test]
fn a_locked_value_is_dropped_once() {
    use std::rc::Rc;
    let shared = Rc::new(());
    let locked = Locked::new_with(|| Rc::clone(&shared));
    assert_eq!(Rc::strong_count(&shared), 2);
    drop(locked);
    assert_eq!(Rc::strong_count(&shared), 1);
}

#[test]
fn locked_bytes_keep_their_length() {
    for length in [0, 1, 4095, 4096, 4097, 10_000] {
        let bytes = vec![0xa5_u8; length];
        assert_eq!(LockedBytes::copy_of(&bytes).expose(), bytes);
    }
}

#[test]
fn regions_are_given_back() {
    // Far more than RLIMIT_MEMLOCK in all, so a leak would show as a fall
    // from one kind of protection to the next.
    let first = protection();
    for _ in 0..20_000 {
        assert_eq!(LockedBytes::copy_of(b"x").region.protection, first);
    }
}
