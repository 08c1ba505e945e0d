//! Which events are changes, and a parser that panics.

use super::*;

fn valid() -> Loaded {
    let read = |_: &Path| {
        Ok(crate::config::Content {
            bytes: CONFIG.into(),
            mode: 0o600,
        })
    };
    crate::config::load(Path::new("/cloud.toml"), &Environment::default(), &read)
        .expect("a valid configuration")
}

const CONFIG: &str = r#"
[Global]
auth-url = "https://keystone.example.com/v3"
application-credential-id = "0123456789abcdef0123456789abcdef"
application-credential-secret = "secret"
[KeyManager]
key-id = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
"#;

#[tokio::test]
async fn a_parser_that_panics_fails_a_reload_and_reads_again() {
    static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let loaded = valid();
    let live = Arc::clone(&loaded.live);
    let path = PathBuf::from("/cloud.toml");
    let mut watcher = Watcher::new(
        path,
        Environment::default(),
        loaded,
        Duration::from_secs(3600),
    );
    watcher.load = |_, _| {
        let calls = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(calls > 1, "the parser has a bug");
        Ok(valid())
    };
    let (config_updates, mut proposed) = watch::channel(ConfigUpdate::Valid(live));
    let (hangup, hangups) = mpsc::channel(1);
    let steps = async {
        proposed.changed().await.expect("the watcher lives");
        let crashed = proposed.borrow_and_update().clone();
        let ConfigUpdate::Invalid(message) = crashed else {
            panic!("{crashed:?}");
        };
        assert!(
            message.starts_with("/cloud.toml: reading it crashed"),
            "{message}"
        );
        hangup.send(()).await.expect("the watcher lives");
        proposed.changed().await.expect("the watcher lives");
        assert!(matches!(&*proposed.borrow(), ConfigUpdate::Valid(_)));
    };
    tokio::select! {
        never = watcher.run(hangups, config_updates) => match never {},
        () = steps => {}
    }
}

#[test]
fn reading_a_file_is_no_change_and_an_overflow_is_one() {
    let event = |kind| Ok(Event::new(kind));
    assert!(!is_change(event(EventKind::Access(AccessKind::Open(
        AccessMode::Any
    )))));
    assert!(!is_change(event(EventKind::Access(AccessKind::Close(
        AccessMode::Read
    )))));
    assert!(is_change(event(EventKind::Access(AccessKind::Close(
        AccessMode::Write
    )))));
    let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    assert!(is_change(Ok(overflow)));
}
