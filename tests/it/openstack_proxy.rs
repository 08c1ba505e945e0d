//! Requests through a proxy on loopback. Loopback targets are never proxied, so
//! the cloud has a name that only the proxy knows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use barbican_kms::config::Roots;
use barbican_kms::openstack::{Error, OpenStack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::cloud::{KEY, Recorder, cloud, key_id, quick};
use crate::support::pki::{Authority, acceptor, params};

/// The head of every request that the proxy was asked to pass on or tunnel.
type Heads = Arc<Mutex<Vec<String>>>;

/// Passes everything on to `target`, whatever its name. CONNECT is answered
/// with `answer`.
async fn proxy(target: SocketAddr, answer: &'static str) -> (SocketAddr, Heads, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            connections.spawn(pass(client, target, answer, Arc::clone(&seen)));
        }
    });
    (address, heads, tasks)
}

async fn pass(
    mut client: TcpStream,
    target: SocketAddr,
    answer: &'static str,
    heads: Heads,
) -> Option<()> {
    let mut start = Vec::new();
    while !start.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut start).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&start).into_owned();
    let tunnel = head.starts_with("CONNECT");
    heads.lock().expect("no panic while held").push(head);
    let mut server = TcpStream::connect(target).await.ok()?;
    if tunnel {
        client.write_all(answer.as_bytes()).await.ok()?;
    } else {
        server.write_all(&start).await.ok()?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .ok()?;
    Some(())
}

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[tokio::test]
async fn https_goes_through_a_tunnel_with_the_proxys_password() {
    let authority = Authority::new("cloud CA");
    let mut named = params();
    named.subject_alt_names = vec![rcgen::SanType::DnsName(
        "cloud.example".try_into().expect("a name"),
    )];
    let tls = acceptor(&authority.issue(&named), None);
    // The catalog must name the cloud, too.
    let server = Recorder::default()
        .named("https://cloud.example:5000")
        .start_with(Some(tls), |_| None)
        .await;
    let (proxy, heads, _tasks) = proxy(server.address, OPEN).await;

    let mut cloud = cloud("https://cloud.example:5000");
    cloud.tls.roots = Roots::Only(vec![authority.der()]);
    cloud.proxy.https = format!("http://user:p%40ss-word@{proxy}").into();
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    assert_eq!(
        client.proxy(client.keystone()),
        Some(proxy.to_string().as_str())
    );
    assert_eq!(
        client.resolve(client.keystone()).await.expect("the proxy"),
        [proxy]
    );
    let kek = client.key(key_id()).await.expect("a key");
    assert_eq!(kek.expose().as_slice(), KEY);

    let heads = heads.lock().expect("no panic while held").clone();
    assert_eq!(heads.len(), 1, "one tunnel for both requests");
    assert!(
        heads[0].starts_with("CONNECT cloud.example:5000 HTTP/1.1\r\n"),
        "{}",
        heads[0]
    );
    // printf %s user:p@ss-word | base64
    assert!(
        heads[0].contains("Proxy-Authorization: Basic dXNlcjpwQHNzLXdvcmQ=\r\n"),
        "{}",
        heads[0]
    );
    for request in server.received() {
        assert_eq!(
            request.header("proxy-authorization"),
            None,
            "not for the server"
        );
        assert!(request.target.starts_with('/'), "{}", request.target);
    }
}

#[tokio::test]
async fn http_names_the_whole_url_to_the_proxy() {
    let server = Recorder::default()
        .named("http://cloud.example:5000")
        .start()
        .await;
    let (proxy, heads, _tasks) = proxy(server.address, OPEN).await;
    let mut cloud = cloud("http://cloud.example:5000");
    cloud.proxy.http = format!("http://user:hunter22@{proxy}").into();
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    client.key(key_id()).await.expect("a key");
    let heads = heads.lock().expect("no panic while held").clone();
    let start = "POST http://cloud.example:5000/v3/auth/tokens HTTP/1.1\r\n";
    assert!(heads[0].starts_with(start), "{}", heads[0]);
    assert!(
        heads[0]
            .to_ascii_lowercase()
            .contains("proxy-authorization: basic "),
        "{}",
        heads[0]
    );
}

#[tokio::test]
async fn a_proxy_may_itself_be_reached_by_https() {
    let authority = Authority::new("cloud CA");
    let server = Recorder::default()
        .named("http://cloud.example:5000")
        .start_with(Some(acceptor(&authority.issue(&params()), None)), |_| None)
        .await;
    let mut cloud = cloud("http://cloud.example:5000");
    cloud.tls.roots = Roots::Only(vec![authority.der()]);
    // The recorder plays the proxy, too.
    cloud.proxy.http = server.base().into();
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    client.key(key_id()).await.expect("a key");
    let target = &server.received()[0].target;
    assert_eq!(target, "http://cloud.example:5000/v3/auth/tokens");
}

#[tokio::test]
async fn no_proxy_and_loopback_are_reached_directly() {
    let server = Recorder::default().start().await;
    let mut cloud = cloud(&server.base());
    cloud.proxy.http = "http://127.0.0.1:1".to_owned().into();
    cloud.proxy.https = "http://127.0.0.1:1".to_owned().into();
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    client.key(key_id()).await.expect("a key, not by the proxy");
    assert_eq!(client.proxy(client.keystone()), None);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_blamed_without_its_password() {
    for (answer, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "authorization required",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "unsuccessful"),
        ("SSH-2.0\r\n\r\n", "unsuccessful"),
    ] {
        let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (proxy, _heads, _tasks) = proxy(target.local_addr().expect("an address"), answer).await;
        let mut cloud = cloud("https://cloud.example:5000");
        cloud.proxy.https = format!("http://user:hunter22@{proxy}").into();
        let client = OpenStack::new(&cloud, quick()).expect("valid");
        let error = client.key(key_id()).await.expect_err("no tunnel");
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&format!("the proxy {proxy}")), "{text}");
        assert!(
            !text.contains("hunter22") && !text.contains("user:"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let mut cloud = cloud("https://cloud.example:5000");
    cloud.proxy.https = "127.0.0.1:1".to_owned().into();
    let client = OpenStack::new(&cloud, quick()).expect("valid");
    let text = client
        .key(key_id())
        .await
        .expect_err("no proxy")
        .to_string();
    assert!(text.contains("through the proxy 127.0.0.1:1"), "{text}");
}
