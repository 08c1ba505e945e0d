//! The listener of metrics: formats, bad requests, and a port that is taken.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::SEED;
use crate::support::cloud::{Recorder, cloud_config};
use crate::support::patience::within;
use crate::support::scrape::Target;
use crate::support::server::Server;
use crate::support::sidecar::{Place, Sidecar};

const METRICS: &[&str] = &["--metrics-address", "127.0.0.1:0"];

/// A sidecar that is ready, and the cloud it asks.
async fn ready() -> (Sidecar, Target, Place, Server) {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start_with(METRICS);
    sidecar.ready().await;
    let target = Target::of(&mut sidecar).await;
    (sidecar, target, place, server)
}

#[tokio::test]
async fn openmetrics_is_given_to_whoever_asks_for_it() {
    let (_sidecar, target, _place, _server) = ready().await;
    let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n";
    let page = target.send(asked).await;
    assert!(
        page.head.contains("application/openmetrics-text"),
        "{}",
        page.head
    );
    assert!(page.body.ends_with("# EOF\n"), "{}", page.body);
    assert!(page.body.contains("# TYPE barbican_kms_requests counter\n"));

    let page = target.get("/metrics").await;
    assert!(
        page.head.contains("text/plain; version=0.0.4"),
        "{}",
        page.head
    );
    assert!(!page.body.contains("# EOF"), "{}", page.body);
    assert!(
        page.body
            .contains("# TYPE barbican_kms_requests_total counter\n")
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (_sidecar, target, _place, _server) = ready().await;
    assert_eq!(target.get("/").await.status, 404);
    assert_eq!(target.get("/metrics/").await.status, 404);
    let posted = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(target.send(posted).await.status, 405);
    let head = target.send("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_header_beyond_the_bound_is_refused() {
    let (_sidecar, target, _place, _server) = ready().await;
    let long = "x".repeat(20_000);
    let page = target
        .send(&format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"
        ))
        .await;
    assert_eq!(page.status, 431, "{}", page.head);
    assert_eq!(target.get("/livez").await.status, 200);
}

#[tokio::test]
async fn clients_that_say_nothing_are_cut_off_and_leave_room_for_others() {
    let (mut sidecar, target, _place, _server) = ready().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(
            TcpStream::connect(target.address())
                .await
                .expect("it listens"),
        );
    }
    let client = sidecar.client().await;
    client.round_trip().await;
    // Full for now; in the end each is cut off, and the next one's turn comes.
    let first = silent.first_mut().expect("forty of them");
    let mut byte = [0; 1];
    let cut = tokio::time::timeout(Duration::from_secs(20), first.read(&mut byte)).await;
    assert!(matches!(cut, Ok(Ok(0) | Err(_))), "{cut:?}");
    drop(silent);
    assert_eq!(target.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_port_that_is_taken_stops_metrics_only_and_is_taken_over_when_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start_with(&["--metrics-address", &address]);
    let event = sidecar
        .logged("no metrics; Encrypt and Decrypt are not affected")
        .await;
    assert_eq!(event["level"], "ERROR");
    let message = event["message"].as_str().expect("a text");
    assert!(message.contains("--metrics-address"), "{message}");
    let client = sidecar.ready().await;
    let wrapped = client.encrypt(SEED).await.expect("Encrypt works");
    assert_eq!(client.decrypt(&wrapped).await.expect("works"), SEED);
    drop(taken);
    let taken_over = within(Duration::from_secs(30), async || {
        TcpStream::connect(&address).await.ok()
    });
    assert!(
        taken_over.await.is_some(),
        "tried again:\n{}",
        sidecar.errors()
    );
}

#[tokio::test]
async fn nothing_of_the_cloud_or_the_caller_becomes_a_label() {
    let (mut sidecar, target, _place, server) = ready().await;
    let client = sidecar.client().await;
    let mut request = crate::support::client::request(&client.round_trip().await);
    request.key_id = "someone-elses-words".to_owned();
    let _ = client.send(request).await;
    let page = target.get("/metrics").await.body;
    for secret in [
        "someone-elses-words",
        "test-decrypt",
        &server.base(),
        "uid\"",
        crate::support::cloud::KEY_ID,
    ] {
        assert!(!page.contains(secret), "{secret} is in\n{page}");
    }
}
