//! The command line: exit codes, flags, hints, and `probe`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::support::openstack;
use crate::support::sidecar::{CommandOutput, Place, barbican_kms};

/// Wrong arguments or a wrong configuration.
const USAGE: i32 = 64;

fn assert_usage(said: &CommandOutput, hint: &str) {
    assert_eq!(said.code, USAGE, "{said:?}");
    assert!(said.errors.contains(hint), "{hint:?} is not in {said:?}");
    assert_eq!(said.output, "");
}

#[tokio::test]
async fn without_arguments_it_says_what_it_can_do() {
    let said = barbican_kms(&[]).await;
    for command in ["serve", "probe", "check", "version"] {
        assert_usage(&said, command);
    }
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_a_hint() {
    for (arguments, hint) in [
        (&["serve"][..], "--socketpath"),
        (&["--socketpath", "/s"], "--cloud-config"),
        (&["--cloud-config", "/c"], "--socketpath"),
        (
            &["--socketpth", "/s", "--cloud-config", "/c"],
            "'--socketpath'",
        ),
        (&["prob"], "'probe'"),
        (&["probe"], "--socketpath"),
        (
            &["probe", "--socketpath", "/s", "--ready", "--deep"],
            "cannot be used with",
        ),
        (
            &["probe", "--socketpath", "/s", "--timeout-ms", "soon"],
            "soon",
        ),
        (&["check"], "--cloud-config"),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "--socket-mode",
                "0800",
            ],
            "0660 for owner and group",
        ),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "--socket-group",
                "no-such-group",
            ],
            "give its number",
        ),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "--log-format",
                "xml",
            ],
            "json",
        ),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "--log-level",
                "loud",
            ],
            "debug",
        ),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "more",
            ],
            "unexpected argument 'more'",
        ),
        (
            &[
                "serve",
                "--socketpath",
                "/s",
                "--cloud-config",
                "/c",
                "--slow-check-seconds",
                "18446744073709551615",
            ],
            "is not in 1..=86400",
        ),
    ] {
        assert_usage(&barbican_kms(arguments).await, hint);
    }
}

#[tokio::test]
async fn version_and_help_are_answers_and_no_errors() {
    let line = concat!("barbican-kms ", env!("CARGO_PKG_VERSION"), "\n");
    for arguments in [["version"], ["--version"], ["-V"]] {
        let said = barbican_kms(&arguments).await;
        assert_eq!(
            (said.code, said.output.as_str()),
            (0, line),
            "{arguments:?}"
        );
    }
    for arguments in [&["--help"][..], &["-h"], &["help"], &["serve", "--help"]] {
        let said = barbican_kms(arguments).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.output.contains("Usage:"), "{said:?}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_and_names_the_place() {
    let config = openstack::plain().config("password");
    let without_key = config
        .split("[KeyManager]")
        .next()
        .expect("a part")
        .to_owned();
    let bad_key = format!("{without_key}[KeyManager]\nkey-id = not-a-uuid\n");
    let listed = format!(
        "{config}decrypt-key-ids = {}, b\n",
        openstack::plain().key(1)
    );
    for (config, hint) in [
        (without_key.as_str(), "key-id is missing in [KeyManager]"),
        (&bad_key, "it is not a UUID like"),
        (&listed, "element 2: it is not a UUID"),
        ("[Global\n", "cloud.conf:1"),
        ("", "auth-url is missing"),
        (
            &config.replace("http://", "ftp://"),
            "it must begin with https://",
        ),
        (&config.replace("tenant-name", "tenant-nam"), "tenant"),
    ] {
        let place = Place::new(config);
        let said = place.start().ended().await;
        assert_usage(&said, hint);
        assert!(said.errors.contains("\"ERROR\""), "{said:?}");
        assert!(!place.socket().exists(), "no socket is left");
        let password = openstack::plain().text("/user/password");
        assert!(!said.errors.contains(password), "{said:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_no_file_ends_with_64() {
    let place = Place::new("");
    let directory = place.path("directory");
    std::fs::create_dir(&directory).expect("made");
    for path in [place.path("missing.conf"), directory, "/dev/zero".into()] {
        let mut command = place.command("serve");
        command.arg("--socketpath").arg(place.socket());
        command.arg("--cloud-config").arg(&path);
        let said = place.spawn(command).ended().await;
        assert_usage(&said, &path.display().to_string());
    }
}

#[tokio::test]
async fn the_flags_of_the_go_plugin_alone_serve() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let (socket, config) = (place.socket(), place.config().to_owned());
    let (socket, config) = (socket.display(), config.display());
    for arguments in [
        vec![
            format!("--socketpath={socket}"),
            format!("--cloud-config={config}"),
        ],
        vec![
            "--socketpath".to_owned(),
            socket.to_string(),
            "--cloud-config".to_owned(),
            config.to_string(),
            "-v=5".to_owned(),
            "--logtostderr=true".to_owned(),
        ],
    ] {
        let mut command = std::process::Command::new(crate::support::sidecar::BINARY);
        command.args(&arguments).env_clear();
        let mut sidecar = place.spawn(command);
        sidecar.ready().await.round_trip().await;
        assert_eq!(sidecar.stop().await.code, 0);
    }
}

#[tokio::test]
async fn the_log_is_json_away_from_a_terminal_and_text_when_asked() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut json = place.start();
    json.ready().await;
    let said = json.stop().await;
    for line in said.errors.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(
            event["timestamp"].is_string() && event["level"].is_string(),
            "{line}"
        );
    }
    assert_eq!(said.output, "");
    let mut text = place.start_with(&["--log-format", "text", "--log-level", "debug"]);
    text.ready().await;
    let said = text.stop().await;
    assert!(said.errors.contains(" INFO key loaded"), "{said:?}");
    assert!(said.errors.contains("DEBUG"), "{said:?}");
    assert!(!said.errors.contains('\u{1b}'), "no colours: {said:?}");
}

#[tokio::test]
async fn levels_leave_out_what_is_less_severe() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start_with(&["--log-level", "error"]);
    sidecar.ready().await.round_trip().await;
    assert_eq!(sidecar.stop().await.errors, "");
}

#[tokio::test]
async fn each_call_is_logged_at_debug_with_uid_and_the_hash_of_its_key_id() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    sidecar.ready().await.round_trip().await;
    let loaded = sidecar.logged("key loaded").await;
    let served = sidecar.logged_times("served", 2).await;
    assert_eq!(served["call"], "decrypt");
    assert_eq!(served["uid"], "test-decrypt");
    assert_eq!(served["key_id_hash"], loaded["key_id_hash"]);
}

#[tokio::test]
async fn probes_of_a_ready_sidecar_succeed_at_every_depth() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start();
    sidecar.ready().await;
    let key = cloud.key(0);
    for (depth, line) in [
        (&[][..], format!("alive and ready, key {key}\n")),
        (&["--ready"], format!("ready, key {key}\n")),
        (&["--deep"], format!("ready, key {key} wraps and unwraps\n")),
    ] {
        let said = place.probe(depth).await;
        assert_eq!((said.code, said.output), (0, line));
        assert_eq!(said.errors, "");
    }
    let shown = place.probe(&["--deep", "--show"]).await;
    assert!(
        shown
            .output
            .contains("hmac-sha256.kms.barbican.openstack.org"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn probes_of_an_unavailable_sidecar_say_alive_and_not_ready() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("reader"));
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar
        .unavailable(&client, "Barbican refuses access")
        .await;
    let live = place.probe(&[]).await;
    assert_eq!(live.code, 0, "{live:?}");
    assert!(
        live.output.starts_with("alive, but not ready: "),
        "{live:?}"
    );
    for depth in ["--ready", "--deep"] {
        let said = place.probe(&[depth]).await;
        assert_eq!((said.code, said.output.as_str()), (1, ""), "{said:?}");
        assert!(said.errors.contains("Barbican refuses access"), "{said:?}");
        assert_eq!(said.errors.lines().count(), 1, "{said:?}");
    }
}

#[tokio::test]
async fn probes_of_a_silent_server_end_at_their_deadline() {
    let place = Place::new("");
    let listener = UnixListener::bind(place.socket()).expect("a socket");
    for depth in [&[][..], &["--ready"], &["--deep"]] {
        let arguments = [depth, &["--timeout-ms", "300"]].concat();
        let begin = Instant::now();
        let said = place.probe(&arguments).await;
        let took = begin.elapsed();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.errors.contains("no answer within 300 ms"), "{said:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    drop(listener);
}

#[tokio::test]
async fn probes_of_nobody_and_of_a_file_fail_at_once() {
    let place = Place::new("");
    let absent = place.probe(&[]).await;
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(
        absent.errors.contains("nobody answers on the socket"),
        "{absent:?}"
    );
    drop(UnixListener::bind(place.socket()).expect("a socket"));
    let stale = place.probe(&[]).await;
    assert_eq!(stale.code, 1, "{stale:?}");
    std::fs::remove_file(place.socket()).expect("removed");
    std::fs::write(place.socket(), "no socket").expect("a file");
    let file = place.probe(&[]).await;
    assert_eq!(file.code, 1, "{file:?}");
}

#[tokio::test]
async fn a_probe_of_a_server_that_speaks_something_else_says_so() {
    let place = Place::new("");
    let listener = UnixListener::bind(place.socket()).expect("a socket");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let said = place.probe(&[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.errors.len() > 20, "{said:?}");
    other.join().expect("no panic");
}

#[tokio::test]
async fn a_probe_of_a_frozen_sidecar_ends_at_its_deadline() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start();
    sidecar.ready().await;
    sidecar.signal(rustix::process::Signal::STOP);
    let said = place.probe(&["--timeout-ms", "300"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.errors.contains("no answer within 300 ms"), "{said:?}");
    sidecar.signal(rustix::process::Signal::CONT);
    assert_eq!(place.probe(&["--deep"]).await.code, 0);
}
