//! The client against a recording Keystone and Barbican: what it sends, and what
//! it makes of the answers.

use std::sync::Arc;
use std::time::Duration;

use barbican_kms::config::{Interface, Roots};
use barbican_kms::keyring::{FetchError, KeySource, UpstreamError};
use barbican_kms::openstack::{Error, OpenStack, SetupError, Timing, Trust};
use tokio::task::JoinSet;

use crate::support::cloud::{
    KEY, KEY_ID, PASSWORD, Recorder, client, cloud, key_id, quick, reads, refused,
};
use crate::support::server::{Received, Reply, Server};

fn logins(server: &Server) -> usize {
    server
        .log()
        .iter()
        .filter(|line| line.starts_with("POST"))
        .count()
}

#[tokio::test]
async fn a_key_takes_one_login_and_one_read() {
    let server = Recorder::default().start().await;
    let kek = client(&server.base()).key(key_id()).await.expect("a key");
    assert_eq!(kek.expose().as_slice(), KEY);

    let received = server.received();
    let [login, read] = received.as_slice() else {
        panic!("two requests, not {received:#?}");
    };
    let agent = concat!("barbican-kms/", env!("CARGO_PKG_VERSION"));
    assert_eq!(login.target, "/v3/auth/tokens");
    assert_eq!(login.header("accept"), Some("application/json"));
    assert_eq!(login.header("content-type"), Some("application/json"));
    assert_eq!(login.header("user-agent"), Some(agent));
    assert_eq!(login.header("x-auth-token"), None);
    assert_eq!(read.target, format!("/km/v1/secrets/{KEY_ID}/payload"));
    assert_eq!(read.header("accept"), Some("application/octet-stream"));
    assert_eq!(read.header("x-auth-token"), Some("token-1"));
    assert_eq!(read.header("user-agent"), Some(agent));
    assert_eq!(read.header("accept-encoding"), None);
    assert_eq!(read.connection, login.connection, "kept alive");
}

#[tokio::test]
async fn a_token_serves_many_reads() {
    let server = Recorder::default().start().await;
    let client = client(&server.base());
    for _ in 0..5 {
        client.key(key_id()).await.expect("a key");
    }
    assert_eq!(logins(&server), 1);
}

#[tokio::test]
async fn many_readers_share_one_login() {
    let server = Recorder::default().start().await;
    let client = Arc::new(client(&server.base()));
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let client = Arc::clone(&client);
        readers.spawn(async move { client.key(key_id()).await.is_ok() });
    }
    assert!(readers.join_all().await.into_iter().all(|ok| ok));
    assert_eq!(logins(&server), 1);
}

/// Time goes on at once. Only while nobody waits for a server, whose time is real.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let recorder = Recorder {
        lifetime: 60,
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let client = client(&server.base());
    client.key(key_id()).await.expect("a key");
    client.key(key_id()).await.expect("a key");
    assert_eq!(logins(&server), 1);
    // Half of a minute is the margin.
    pass(31).await;
    client.key(key_id()).await.expect("a key");
    assert_eq!(logins(&server), 2);
}

#[tokio::test]
async fn a_failed_renewal_does_no_harm_while_the_token_lives() {
    let recorder = Recorder {
        lifetime: 60,
        auth: vec![201, 401],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let timing = Timing {
        refused: Duration::from_secs(300),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
    client.key(key_id()).await.expect("a key");
    pass(31).await;
    for _ in 0..3 {
        client
            .key(key_id())
            .await
            .expect("the old token still works");
    }
    assert_eq!(logins(&server), 2, "refused once, then left alone");
    pass(60).await;
    let error = client.key(key_id()).await.expect_err("it has ended");
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert_eq!(logins(&server), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let recorder = Recorder {
        pay: vec![401, 200],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    client(&server.base()).key(key_id()).await.expect("a key");
    let tokens: Vec<_> = server
        .received()
        .iter()
        .filter_map(|request| request.header("x-auth-token").map(str::to_owned))
        .collect();
    assert_eq!(tokens, ["token-1", "token-2"]);
}

#[tokio::test]
async fn a_refusal_with_a_fresh_token_is_final_and_says_what_to_do() {
    let recorder = Recorder {
        pay: vec![401],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let error = client(&server.base())
        .fetch(key_id())
        .await
        .expect_err("401");
    let FetchError::Denied(cause) = error else {
        panic!("denied, not {error}");
    };
    let text = cause.to_string();
    assert!(text.contains("401"), "{text}");
    assert!(text.contains("access rules"), "{text}");
    assert!(text.contains(KEY_ID), "{text}");
    assert_eq!(server.log().len(), 4);
}

#[tokio::test]
async fn a_key_for_which_no_token_is_taken_costs_a_login_now_and_then() {
    let recorder = Recorder {
        pay: vec![401],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let timing = Timing {
        distrust: Duration::from_secs(1),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
    for _ in 0..10 {
        let error = client.fetch(key_id()).await.expect_err("401");
        assert!(matches!(error, FetchError::Denied(_)), "{error}");
    }
    assert_eq!(logins(&server), 2);
    assert_eq!(reads(&server), 11, "Barbican may change its mind");
    tokio::time::sleep(Duration::from_millis(1020)).await;
    for _ in 0..5 {
        client.fetch(key_id()).await.expect_err("401");
    }
    assert_eq!(logins(&server), 3);
}

#[tokio::test]
async fn a_token_that_is_revoked_later_is_replaced_at_once() {
    // In vain at first, then served, and then the token is worth nothing any more.
    let recorder = Recorder {
        pay: vec![401, 401, 200, 401, 200],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let client = client(&server.base());
    client.key(key_id()).await.expect_err("401");
    client.key(key_id()).await.expect("a key");
    client.key(key_id()).await.expect("a key, with a new token");
    assert_eq!(logins(&server), 3);
}

#[tokio::test]
async fn a_403_is_about_roles_and_a_404_about_the_key() {
    for (status, hint) in [(403, "openstack acl user add"), (404, "expired")] {
        let recorder = Recorder {
            pay: vec![status],
            ..Recorder::default()
        };
        let server = recorder.start().await;
        let error = client(&server.base())
            .fetch(key_id())
            .await
            .expect_err("refused");
        let (FetchError::Denied(cause) | FetchError::NotFound(cause)) = &error else {
            panic!("{status}: {error}");
        };
        assert!(cause.to_string().contains(hint), "{cause}");
        assert_eq!(server.log().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_refused_login_is_not_repeated_for_a_while() {
    let recorder = Recorder {
        auth: vec![401, 401, 201],
        ..Recorder::default()
    };
    let server = recorder.start().await;
    let timing = Timing {
        refused: Duration::from_secs(60),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
    for _ in 0..5 {
        let error = client.fetch(key_id()).await.expect_err("refused");
        assert!(
            matches!(error, FetchError::Upstream(UpstreamError::Login { .. })),
            "{error}"
        );
    }
    assert_eq!(logins(&server), 1);
    pass(61).await;
    client.fetch(key_id()).await.expect_err("refused again");
    pass(61).await;
    client.fetch(key_id()).await.expect_err("twice as long now");
    assert_eq!(logins(&server), 2);
    pass(61).await;
    client.fetch(key_id()).await.expect("accepted at last");
    assert_eq!(logins(&server), 3);
}

#[tokio::test]
async fn a_refused_login_shows_keystones_words_and_not_the_password() {
    let server = Recorder::default()
        .start_with(None, |request| {
            let said = String::from_utf8_lossy(&request.body).into_owned();
            let body = serde_json::json!({"error": {"code": 401, "title": "Unauthorized",
                "message": format!("The request you have made requires authentication. {said}")}});
            Some(Reply::status(401).body(body.to_string()))
        })
        .await;
    let error = client(&server.base()).key(key_id()).await.expect_err("401");
    let text = error.to_string();
    assert!(text.contains("requires authentication"), "{text}");
    assert!(text.contains("(redacted)"), "{text}");
    assert!(text.contains("application credential"), "{text}");
    assert!(!format!("{text} {error:?}").contains(PASSWORD), "{text}");
}

#[tokio::test]
async fn who_answers_in_keystones_place_refuses_no_credentials() {
    let html = "<html><head><title>404 Not Found</title></head></html>";
    for (status, body) in [
        (400, "The plain HTTP request was sent to HTTPS port"),
        (403, "RBAC: access denied"),
        (404, html),
        (404, ""),
        (404, r#"{"error": {"code": 404, "message": "no route"}}"#),
        (405, "Method Not Allowed"),
        (421, ""),
    ] {
        let login = |request: &Received| request.target.ends_with("/auth/tokens");
        let server = Recorder::default()
            .start_with(None, move |request| {
                login(request).then(|| Reply::status(status).body(body))
            })
            .await;
        let client = client(&server.base());
        for _ in 0..2 {
            let error = client.key(key_id()).await.expect_err("refused");
            assert!(matches!(error, Error::Unavailable(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(&status.to_string()), "{text}");
            assert!(text.contains("auth-url is wrong"), "{text}");
            assert!(!text.contains("password"), "{text}");
        }
        // Each time as often as after an outage.
        assert_eq!(logins(&server), 6, "no silence follows");
    }
}

#[tokio::test]
async fn keystones_own_refusals_are_about_the_credentials_whatever_their_status() {
    for status in [400, 401, 403, 404] {
        let recorder = Recorder {
            auth: vec![status],
            ..Recorder::default()
        };
        let server = recorder.start().await;
        let error = client(&server.base()).key(key_id()).await.expect_err("no");
        assert!(matches!(error, Error::Login { .. }), "{error}");
    }
    let server = Server::start(None, |_, _| Reply::status(401).body("<html>no</html>")).await;
    let error = client(&server.base()).key(key_id()).await.expect_err("no");
    assert!(matches!(error, Error::Login { .. }), "{error}");
}

#[tokio::test]
async fn the_endpoint_follows_interface_and_region() {
    let server = Recorder::default().start().await;
    for (interface, region, path) in [
        (Interface::Public, None, "/km/"),
        (Interface::Internal, Some("R1"), "/kmint/"),
        (Interface::Admin, None, "/kmadm/"),
        (Interface::Public, Some("R2"), "/kmr2/"),
        (Interface::Public, Some("R2id"), "/kmr2/"),
    ] {
        let mut cloud = cloud(&server.base());
        cloud.interface = interface;
        cloud.region = region.map(str::to_owned);
        let client = OpenStack::new(&cloud, quick()).expect("valid");
        client.key(key_id()).await.expect("a key");
        let last = server.log().pop().expect("a request");
        assert!(
            last.starts_with(&format!("GET {path}v1/secrets/")),
            "{last}"
        );
    }
}

#[tokio::test]
async fn a_wrong_region_is_answered_with_the_right_ones() {
    let server = Recorder::default().start().await;
    let mut cloud = cloud(&server.base());
    cloud.region = Some("r1".to_owned());
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    let error = client.key(key_id()).await.expect_err("no endpoint");
    assert!(matches!(error, Error::Endpoint(_)), "{error}");
    assert!(error.to_string().contains("public in \"R1\""), "{error}");
    assert_eq!(server.log(), ["POST /v3/auth/tokens"]);
}

#[tokio::test]
async fn a_wrong_length_is_not_a_key() {
    for length in [0, 15, 17, 31, 33, 44, 4096, 4097, 100_000] {
        let server = Recorder::default()
            .start_with(None, move |request| {
                let read = request.target.ends_with("/payload");
                read.then(|| Reply::status(200).body(vec![b'k'; length]))
            })
            .await;
        let error = client(&server.base())
            .fetch(key_id())
            .await
            .expect_err("no key");
        assert!(matches!(error, FetchError::NotAKey(_)), "{length}: {error}");
    }
}

#[tokio::test]
async fn the_steps_of_a_check_can_be_taken_one_by_one() {
    let server = Recorder::default()
        .start_with(None, |request| {
            let metadata = request.target == format!("/km/v1/secrets/{KEY_ID}");
            metadata.then(|| {
                let body = serde_json::json!({
                    "name": "kek", "status": "ACTIVE", "secret_type": "symmetric",
                    "algorithm": "aes", "bit_length": 256, "mode": "cbc",
                    "expiration": "2030-01-01T00:00:00", "creator_id": "x",
                    "content_types": {"default": "application/octet-stream"},
                    "created": "2026-01-01T00:00:00", "updated": null});
                Reply::status(200)
                    .header("Content-Type", "application/json; charset=UTF-8")
                    .body(body.to_string())
            })
        })
        .await;
    let client = client(&server.base());
    let keystone = client.keystone().clone();
    let addresses = client.resolve(&keystone).await.expect("an address");
    assert_eq!(addresses, [server.address]);
    let peer = client.connect(&keystone).await.expect("a connection");
    assert_eq!(peer.address, Some(server.address));
    assert_eq!(peer.tls, None);
    let session = client.login().await.expect("a session");
    assert_eq!(session.account().roles, ["member"]);
    assert_eq!(session.account().project.as_deref(), Some("infra"));
    assert!(session.account().expires_at.is_some());
    let endpoint = client.endpoint(&session).expect("an endpoint");
    let metadata = client
        .metadata(&session, &endpoint, key_id())
        .await
        .expect("metadata");
    assert_eq!(metadata.bit_length, Some(256));
    assert_eq!(metadata.algorithm.as_deref(), Some("aes"));
    let expiration = metadata.expiration.expect("a time");
    assert_eq!(expiration.to_string(), "2030-01-01T00:00:00Z");
    let kek = client
        .payload(&session, &endpoint, key_id())
        .await
        .expect("a key");
    assert_eq!(kek.expose().as_slice(), KEY);
    assert_eq!(logins(&server), 1);
}

#[tokio::test]
async fn metadata_that_may_not_be_read_costs_no_login() {
    for status in [401, 403] {
        let server = Recorder::default()
            .start_with(None, move |request| {
                let payload = request.target.ends_with("/payload");
                (request.method == "GET" && !payload).then(|| refused(status))
            })
            .await;
        let client = client(&server.base());
        let session = client.login().await.expect("a session");
        let endpoint = client.endpoint(&session).expect("an endpoint");
        let error = client
            .metadata(&session, &endpoint, key_id())
            .await
            .expect_err("not allowed");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        assert_eq!(server.log().len(), 2);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_a_timer() {
    let server = Recorder::default().start().await;
    let timing = Timing {
        idle: Duration::from_millis(100),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
    client.key(key_id()).await.expect("a key");
    assert_eq!(server.open_connections(), 1);
    let closed = async {
        while server.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("closed although nobody asks");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_any_request() {
    let mut cloud = cloud("http://127.0.0.1:1");
    cloud.tls.roots = Roots::Only(vec![b"no certificate".to_vec()]);
    let error = OpenStack::new(&cloud, quick()).expect_err("no certificate");
    assert!(matches!(error, SetupError::Tls(_)), "{error}");
    assert!(error.to_string().contains("number 1 of ca-file"), "{error}");

    cloud.tls.verify = false;
    let client = OpenStack::new(&cloud, quick()).expect("roots are not needed");
    assert_eq!(client.trust(), Trust::Unverified);

    cloud.proxy.https = "socks5://u:hunter22@proxy".to_owned().into();
    let error = OpenStack::new(&cloud, quick()).expect_err("no such proxy");
    assert!(matches!(error, SetupError::Proxy(_)), "{error}");
    assert!(!error.to_string().contains("hunter22"), "{error}");
}
