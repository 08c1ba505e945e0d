//! What the client makes of answers that are too long, of another kind, or from
//! somebody else.

use barbican_kms::openstack::Error;

use crate::support::cloud::{
    KEY, Recorder, client, cloud_config, key_id, payloads, reads, unavailable,
};
use crate::support::server::{Reply, Server};
use crate::support::sidecar::Place;

#[tokio::test]
async fn a_payload_beyond_the_cap_is_refused() {
    let announced = Reply::status(200).body(vec![b'k'; 4097]);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut chunk = b"1000\r\n".to_vec();
    chunk.extend_from_slice(&[b'k'; 0x1000]);
    chunk.extend_from_slice(b"\r\n");
    for reply in [
        announced,
        Reply::Endless(head, chunk),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
    ] {
        let server = payloads(move |_| reply.clone()).await;
        let error = client(&server.base())
            .key(key_id())
            .await
            .expect_err("no key");
        assert!(matches!(error, Error::NotAKey(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("more than 4096 bytes"), "{text}");
        assert_eq!(reads(&server), 1, "not tried again");
    }
}

#[tokio::test]
async fn a_login_reply_beyond_the_cap_is_refused() {
    let server = Server::start(None, |_, _| {
        Reply::status(201)
            .header("X-Subject-Token", "t")
            .body(vec![b' '; 4 * 1024 * 1024 + 1])
    })
    .await;
    let text = unavailable(&client(&server.base())).await;
    assert!(text.contains("longer than 4194304 bytes"), "{text}");
}

#[tokio::test]
async fn a_large_catalog_is_accepted() {
    let server = Recorder::default()
        .start_with(None, |request| {
            (request.method == "POST").then(|| {
                let endpoint =
                    serde_json::json!({"interface": "public", "region": "R", "url": "http://x"});
                let mut services = vec![
                    serde_json::json!({"type": "volume", "endpoints": vec![endpoint; 50]});
                    500
                ];
                services.push(serde_json::json!({"type": "key-manager", "endpoints": [
                    {"interface": "public", "region": "R1",
                     "url": format!("http://{}/km", request.header("host").expect("a host"))}]}));
                let body = serde_json::json!({"token": {"catalog": services}});
                Reply::status(201)
                    .header("X-Subject-Token", "t")
                    .body(body.to_string())
            })
        })
        .await;
    client(&server.base()).key(key_id()).await.expect("a key");
}

/// `before`, as many of `part` as a reply has room for, and `after`.
fn full(before: &str, part: &str, after: &str) -> String {
    let room = 4 * 1024 * 1024 - before.len() - after.len();
    let mut parts = part.repeat(room / part.len());
    // The comma after the last one.
    parts.pop();
    [before, &parts, after].concat()
}

#[tokio::test]
async fn a_reply_of_a_million_parts_costs_little_more_than_its_bytes() {
    let barbican = r#"{"token":{"catalog":[{"type":"key-manager","endpoints":["#;
    let rules = r#"{"token":{"application_credential":{"access_rules":["#;
    for body in [
        full(r#"{"token":{"catalog":["#, "{},", "]}}"),
        full(r#"{"token":{"catalog":["#, r#"{"endpoints":[{}]},"#, "]}}"),
        full(barbican, "{},", "]}]}}"),
        full(r#"{"token":{"roles":["#, "{},", "]}}"),
        full(rules, "{},", "]}}}"),
        full(r#"{"token":{"expires_at":["#, "[],", "]}}"),
        full(r#"{"token":{"user":{"domain":["#, "0,", "]}}}"),
    ] {
        let begin = body[..40].to_owned();
        let server = Server::start(None, move |_, _| {
            Reply::status(201)
                .header("X-Subject-Token", "t")
                .body(body.clone())
        })
        .await;
        let place = Place::new(&cloud_config(&server));
        let mut sidecar = place.start();
        let event = sidecar.logged("key not loaded: ").await;
        assert!(event.to_string().contains("service catalog"), "{event}");
        let peak = sidecar.peak_kib();
        println!("{begin}: {peak} KiB");
        assert!(peak < 40 * 1024, "{begin}: {peak} KiB");
    }
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: x\r\n".repeat(5000));
    for bomb in [long, many] {
        let server = payloads(move |_| Reply::Bytes(bomb.clone().into_bytes())).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(text.contains("header is longer than"), "{text}");
    }
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let server = payloads(move |_| Reply::Endless(head.clone(), b"X-More: x\r\n".to_vec())).await;
    let text = unavailable(&client(&server.base())).await;
    assert!(text.contains("header is longer than"), "{text}");
}

#[tokio::test]
async fn another_content_type_is_no_key() {
    for kind in [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "application/json",
        "application/xhtml+xml",
    ] {
        let server =
            payloads(move |_| Reply::status(200).header("Content-Type", kind).body(KEY)).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(
            text.contains(&format!(
                "the answer is {kind} and not application/octet-stream"
            )),
            "{text}"
        );
    }
    for kind in [
        "application/octet-stream",
        "text/plain",
        "binary/octet-stream",
        "*/*",
    ] {
        let server =
            payloads(move |_| Reply::status(200).header("Content-Type", kind).body(KEY)).await;
        client(&server.base()).key(key_id()).await.expect("a key");
    }
    let server = payloads(|_| {
        Reply::status(200)
            .header("Content-Encoding", "gzip")
            .body(KEY)
    })
    .await;
    unavailable(&client(&server.base())).await;
}

#[tokio::test]
async fn a_login_page_in_place_of_keystone_is_told_from_keystone() {
    let server = Server::start(None, |_, _| {
        Reply::status(201)
            .header("X-Subject-Token", "t")
            .header("Content-Type", "text/html")
            .body("<html>Welcome</html>")
    })
    .await;
    let text = unavailable(&client(&server.base())).await;
    assert!(text.contains("text/html"), "{text}");
    let server = Server::start(None, |_, _| Reply::status(201).body("{}")).await;
    let text = unavailable(&client(&server.base())).await;
    assert!(text.contains("X-Subject-Token"), "{text}");
    let server = Server::start(None, |_, _| {
        Reply::status(201)
            .header("X-Subject-Token", "t")
            .body("welcome")
    })
    .await;
    let text = unavailable(&client(&server.base())).await;
    assert!(text.contains("not the expected JSON (line 1"), "{text}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Recorder::default().start().await;
    let location = format!("{}/km/v1/secrets/x/payload?secret=1", elsewhere.base());
    for status in [301, 302, 303, 307, 308] {
        let location = location.clone();
        let server = payloads(move |_| Reply::status(status).header("Location", &location)).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(text.contains("a redirect to http://127.0.0.1:"), "{text}");
        assert!(!text.contains("secret=1"), "{text}");
        assert_eq!(reads(&server), 1);
    }
    assert!(elsewhere.log().is_empty(), "the token went there");
}

#[tokio::test]
async fn only_barbican_itself_says_that_a_key_is_gone_or_refused() {
    for (status, body) in [
        (404, "default backend - 404"),
        (404, "<html><h1>404 Not Found</h1></html>"),
        (404, r#"{"code": 404, "message": "no route"}"#),
        (401, "<html><h1>401 Authorization Required</h1></html>"),
        (403, "<html><h1>403 Forbidden</h1></html>"),
        (410, ""),
    ] {
        let server = payloads(move |_| Reply::status(status).body(body)).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(text.contains("something in front of Barbican"), "{text}");
        assert!(text.contains("/km/v1"), "{text}");
        assert_eq!(reads(&server), 3, "tried again: {status} {body}");
    }
}

#[tokio::test]
async fn a_path_that_barbican_does_not_route_is_named() {
    for body in [
        r#"{"code": 406, "title": "Not Acceptable", "description": null}"#,
        "406 Not Acceptable",
    ] {
        let server = payloads(move |_| Reply::status(406).body(body)).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(
            text.contains("the catalog's URL for key-manager is http://"),
            "{text}"
        );
        assert!(text.contains("/km/v1; it must be"), "{text}");
    }
}

#[tokio::test]
async fn garbage_is_called_garbage() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\0\0\0\0",
        b"\x15\x03\x03\x00\x02\x02\x46",
    ] {
        let server = Server::start(None, |_, _| Reply::Bytes(garbage.to_vec())).await;
        let text = unavailable(&client(&server.base())).await;
        assert!(text.contains("not HTTP"), "{text}");
        assert!(text.contains("the URL must be https"), "{text}");
    }
}
