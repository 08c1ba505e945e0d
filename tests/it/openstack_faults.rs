//! What the client makes of servers that are slow, busy or not there.

use std::time::{Duration, Instant};

use barbican_kms::keyring::{FetchError, KeySource, UpstreamError};
use barbican_kms::openstack::{Error, OpenStack, Timing};
use tokio::net::TcpListener;

use crate::support::cloud::{
    KEY, Recorder, client, cloud, key, key_id, payloads, quick, reads, unavailable,
};
use crate::support::server::{Received, Reply, Server};

#[tokio::test]
async fn what_passes_is_survived() {
    for broken in [
        Reply::status(429),
        Reply::status(429).header("Retry-After", 0),
        Reply::status(500),
        Reply::status(502).body("<html><h1>Bad Gateway</h1></html>"),
        Reply::status(503),
        Reply::status(504),
        Reply::Bytes(Vec::new()),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\nhalf".to_vec()),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Reply::Reset(b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\nhalf".to_vec()),
        Reply::Reset(Vec::new()),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal".to_vec()),
    ] {
        let shown = format!("{broken:?}");
        let server = payloads(move |n| if n == 0 { broken.clone() } else { key() }).await;
        let kek = client(&server.base()).key(key_id()).await;
        let kek = kek.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(
            kek.expose().as_slice(),
            KEY,
            "no half key in front: {shown}"
        );
        assert_eq!(reads(&server), 2, "{shown}");
    }
}

#[tokio::test]
async fn a_storm_ends_after_a_few_tries() {
    for status in [429, 500, 502, 503, 504] {
        let server = payloads(move |_| Reply::status(status).body("overloaded")).await;
        let error = client(&server.base())
            .key(key_id())
            .await
            .expect_err("down");
        let text = error.to_string();
        match (status, FetchError::from(error)) {
            (429, FetchError::Upstream(UpstreamError::Unavailable { retry_after, .. })) => {
                assert!(retry_after.is_some(), "it has enough of us");
            }
            (500.., FetchError::Upstream(UpstreamError::Unanswered(_))) => {}
            (_, other) => panic!("{status}: {other:?}"),
        }
        assert!(
            text.contains(&status.to_string()) && text.contains("overloaded"),
            "{text}"
        );
        assert_eq!(reads(&server), 3, "{status}");
    }
}

#[tokio::test]
async fn a_fetch_in_an_outage_sends_one_request_and_after_it_all_again() {
    let server = payloads(|n| match n {
        // Down at first, well once, and then busy for a moment.
        0 | 1 | 3 => Reply::status(503),
        _ => key(),
    })
    .await;
    let client = client(&server.base());
    for reads_so_far in 1..=2 {
        let error = client.fetch(key_id()).await.expect_err("down");
        assert!(
            matches!(error, FetchError::Upstream(UpstreamError::Unanswered(_))),
            "{error:?}"
        );
        assert_eq!(reads(&server), reads_so_far, "the caller comes again");
    }
    client.fetch(key_id()).await.expect("a key");
    client.fetch(key_id()).await.expect("a key, after a 503");
    assert_eq!(reads(&server), 5);
}

#[tokio::test]
async fn a_login_is_tried_again_as_well() {
    for status in [429, 500, 502, 503, 504] {
        let recorder = Recorder {
            auth: vec![status, 201],
            ..Recorder::default()
        };
        let server = recorder.start().await;
        client(&server.base()).key(key_id()).await.expect("a key");

        let recorder = Recorder {
            auth: vec![status],
            ..Recorder::default()
        };
        let server = recorder.start().await;
        unavailable(&client(&server.base())).await;
        assert_eq!(server.log().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = payloads(|n| match n {
        0 => Reply::status(429).header("Retry-After", 1),
        _ => key(),
    })
    .await;
    let start = Instant::now();
    client(&server.base()).key(key_id()).await.expect("a key");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_retry_after_beyond_our_time_ends_the_operation_at_once() {
    let server = payloads(|_| Reply::status(503).header("Retry-After", 3600)).await;
    let start = Instant::now();
    let error = client(&server.base()).fetch(key_id()).await;
    let Err(FetchError::Upstream(UpstreamError::Unavailable { retry_after, .. })) = error else {
        panic!("unavailable, not {error:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(3600)), "passed on");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(reads(&server), 1);
}

#[tokio::test]
async fn slowness_within_the_limit_is_waited_for() {
    let server = payloads(|_| Reply::Late(Duration::from_millis(300), Box::new(key()))).await;
    client(&server.base()).key(key_id()).await.expect("a key");
}

#[tokio::test]
async fn silence_is_given_up() {
    for stalled in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let server = payloads(|_| Reply::Stall(stalled.to_vec())).await;
        let timing = Timing {
            request: Duration::from_millis(500),
            ..quick()
        };
        let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
        let text = unavailable(&client).await;
        assert!(text.contains("no complete answer within 0.5 s"), "{text}");
        assert_eq!(reads(&server), 1, "not tried again");
    }
}

#[tokio::test]
async fn an_operation_ends_in_time_whatever_happens() {
    // Every try of every request takes all the time that it may.
    let slow = |_: &str, _: &Received| {
        Reply::Late(Duration::from_millis(700), Box::new(Reply::status(503)))
    };
    let server = Server::start(None, slow).await;
    let timing = Timing {
        tries: 100,
        request: Duration::from_millis(800),
        operation: Duration::from_secs(2),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&server.base()), timing).expect("valid");
    let start = Instant::now();
    unavailable(&client).await;
    let took = start.elapsed();
    assert!(took < Duration::from_millis(2400), "{took:?}");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_status_is_reported_even_if_its_body_never_ends() {
    let head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let server = payloads(move |_| Reply::Endless(head.clone(), b"5\r\nno no\r\n".to_vec())).await;
    let error = client(&server.base()).key(key_id()).await.expect_err("403");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("no nono no"), "{error}");

    let head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nwhy".to_vec();
    let server = payloads(move |_| Reply::Stall(head.clone())).await;
    let error = client(&server.base()).key(key_id()).await.expect_err("403");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let text = unavailable(&client(&format!("http://{address}"))).await;
    assert!(
        text.contains("cannot connect") && text.contains("refused"),
        "{text}"
    );

    let unknown = client("http://keystone.invalid:5000");
    let text = unavailable(&unknown).await;
    assert!(
        text.contains("the name keystone.invalid cannot be resolved"),
        "{text}"
    );
    let text = unknown
        .resolve(unknown.keystone())
        .await
        .expect_err("no address")
        .to_string();
    assert!(text.contains("keystone.invalid"), "{text}");
}

#[test]
fn a_name_that_is_looked_up_for_too_long_is_not_called_a_slow_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime");
    // The only thread that could ask the system's resolver is busy.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = runtime.spawn_blocking(move || released.recv());
    let text = runtime.block_on(async {
        let timing = Timing {
            connect: Duration::from_millis(100),
            ..quick()
        };
        let cloud = cloud("http://keystone.invalid:5000");
        let client = OpenStack::new(&cloud, timing).expect("valid");
        let late = client.resolve(client.keystone()).await;
        late.expect_err("no address in time").to_string()
    });
    drop(release);
    runtime
        .block_on(busy)
        .expect("it ends")
        .expect_err("released");
    assert!(
        text.contains("looking up the name keystone.invalid:5000 took longer than 0.1 s"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_never_accepts_is_given_up_within_the_connect_time() {
    // A listener whose queue is full: further connections get no answer.
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    listener
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener = listener.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut fillers = Vec::new();
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(50), connecting).await {
            Ok(stream) => fillers.push(stream),
            Err(_) => break,
        }
    }
    let timing = Timing {
        connect: Duration::from_millis(100),
        ..quick()
    };
    let client = OpenStack::new(&cloud(&format!("http://{address}")), timing).expect("valid");
    let start = Instant::now();
    let text = unavailable(&client).await;
    assert!(text.contains("took longer than 0.1 s"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(5));
}
