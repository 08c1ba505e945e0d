//! Clients that send what no API server sends, against the running process.

use std::os::unix::net::UnixStream as BlockingStream;
use std::time::{Duration, Instant};

use barbican_kms::envelope::TAG_ANNOTATION;
use barbican_kms::proto::v2;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::client::{Client, SEED, request};
use crate::support::openstack;
use crate::support::patience::{at_once, until, within};
use crate::support::random::Random;
use crate::support::sidecar::{Place, Sidecar};

/// What a good client may wait for beside bad ones, on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

async fn running() -> (Place, Sidecar) {
    let place = Place::new(&openstack::plain().config("application_credential_narrow"));
    let mut sidecar = place.start();
    sidecar.ready().await;
    (place, sidecar)
}

/// A client that comes now is served, and soon.
async fn assert_serves(sidecar: &mut Sidecar) {
    let begin = Instant::now();
    sidecar.ready().await.round_trip().await;
    let took = begin.elapsed();
    assert!(took < PROMPT, "{took:?}");
}

/// A Decrypt request of which some part is not as Encrypt made it.
fn wrong(random: &mut Random, good: &v2::DecryptRequest) -> v2::DecryptRequest {
    let mut wrong = good.clone();
    match random.below(8) {
        0 => {
            let length = random.below(1200);
            wrong.ciphertext = random.bytes(length);
        }
        1 | 2 => wrong.ciphertext = random.mutated(&good.ciphertext),
        3 => {
            let id = random.mutated(good.key_id.as_bytes());
            wrong.key_id = String::from_utf8_lossy(&id).into_owned();
        }
        4 => {
            let length = random.below(70);
            wrong.key_id = String::from_utf8_lossy(&random.bytes(length)).into_owned();
        }
        5 => {
            let tag = random.mutated(&good.annotations[TAG_ANNOTATION]);
            wrong.annotations.insert(TAG_ANNOTATION.to_owned(), tag);
        }
        6 => {
            wrong.annotations.clear();
            let length = 16 * random.below(66);
            wrong.ciphertext = random.bytes(length);
        }
        _ => {
            let name = random.mutated(TAG_ANNOTATION.as_bytes());
            let name = String::from_utf8_lossy(&name).into_owned();
            let length = random.below(300);
            wrong.annotations.insert(name, random.bytes(length));
            wrong.ciphertext = random.mutated(&good.ciphertext);
        }
    }
    let length = random.below(100);
    wrong.uid = String::from_utf8_lossy(&random.bytes(length)).into_owned();
    wrong
}

/// Sends `count` wrong requests over one connection, a few at a time.
async fn send_wrong(client: Client, seed: u64, count: usize) {
    let good = request(&client.encrypt(SEED).await.expect("Encrypt works"));
    at_once((0..8).map(async |lane| {
        let mut random = Random::new(seed * 8 + lane);
        for _ in 0..count / 8 {
            let wrong = wrong(&mut random, &good);
            let same = wrong.ciphertext == good.ciphertext
                && wrong.key_id.eq_ignore_ascii_case(&good.key_id);
            let tagged = wrong.annotations.contains_key(TAG_ANNOTATION);
            match client.send(wrong.clone()).await {
                // Padding alone cannot tell all wrong data without a tag.
                Ok(_) => assert!(same || !tagged, "{wrong:?}"),
                Err(status) => assert!(
                    matches!(
                        status.code(),
                        Code::InvalidArgument | Code::FailedPrecondition
                    ),
                    "{status:?}: {wrong:?}"
                ),
            }
        }
    }))
    .await;
}

async fn send_wrong_over_four_connections(sidecar: &mut Sidecar, seed: u64, count: usize) {
    let mut connections = Vec::new();
    for number in 0..4 {
        let client = sidecar.ready().await;
        connections.push(send_wrong(client, seed * 4 + number, count / 4));
    }
    at_once(connections).await;
}

#[tokio::test]
async fn a_hundred_thousand_wrong_requests_cost_no_memory_and_no_service() {
    let (_place, mut sidecar) = running().await;
    send_wrong_over_four_connections(&mut sidecar, 1, 5_000).await;
    let before = sidecar.resident_kib();
    send_wrong_over_four_connections(&mut sidecar, 2, 100_000).await;
    let after = sidecar.resident_kib();
    assert!(after < before + 4096, "from {before} KiB to {after} KiB");
    assert_serves(&mut sidecar).await;
}

/// A connection of requests that tonic's client could not send.
pub(crate) struct Raw {
    sender: SendRequest<UnsyncBoxBody<Bytes, std::io::Error>>,
    _driver: JoinSet<()>,
}

impl Raw {
    pub(crate) async fn open(sidecar: &Sidecar) -> Self {
        let stream = UnixStream::connect(sidecar.socket())
            .await
            .expect("listening");
        let io = TokioIo::new(stream);
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { driver.await.unwrap_or_default() });
        Self {
            sender,
            _driver: tasks,
        }
    }

    async fn send(
        &self,
        request: Request<UnsyncBoxBody<Bytes, std::io::Error>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.clone().send_request(request).await
    }

    /// A Decrypt whose message never arrives; answered when the sidecar gives it up.
    pub(crate) fn stuck(&self) -> impl Future<Output = Option<Code>> + use<> {
        let beginning = Bytes::from(message(1000, b"half"));
        let stuck = Stuck(Some(beginning));
        let request = post(DECRYPT, StreamBody::new(stuck).boxed_unsync());
        let sending = self.sender.clone().send_request(request);
        async move { grpc_status(sending.await.ok()?).await }
    }

    /// Posts these bytes to Decrypt; the gRPC status, wherever it stands.
    async fn decrypt(&self, body: Vec<u8>) -> Option<Code> {
        let answer = self.send(post(DECRYPT, full(body))).await.ok()?;
        grpc_status(answer).await
    }
}

const DECRYPT: &str = "/v2.KeyManagementService/Decrypt";

fn post<B>(path: &str, body: B) -> Request<B> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

fn full(body: Vec<u8>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    let full = Full::new(Bytes::from(body));
    full.map_err(|never| match never {}).boxed_unsync()
}

/// A gRPC message: not compressed, with a length that may be a lie.
fn message(length: u32, content: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.extend(content);
    message
}

async fn grpc_status(answer: Response<Incoming>) -> Option<Code> {
    let of = |value: &HeaderValue| Code::from_bytes(value.as_bytes());
    if let Some(value) = answer.headers().get("grpc-status") {
        return Some(of(value));
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(trailers) = frame.ok()?.into_trailers() {
            return trailers.get("grpc-status").map(of);
        }
    }
    None
}

#[tokio::test]
async fn messages_that_are_no_protobuf_are_answered_with_errors() {
    let (_place, mut sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    let mut random = Random::new(3);
    for _ in 0..2000 {
        let length = random.below(200);
        let garbage = random.bytes(length);
        let length = u32::try_from(garbage.len()).expect("short");
        let code = raw.decrypt(message(length, &garbage)).await;
        assert!(code.is_some_and(|code| code != Code::Ok), "{garbage:?}");
    }
    assert_serves(&mut sidecar).await;
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused_at_their_length() {
    let (_place, mut sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    for length in [64 * 1024 + 1, 1 << 24, u32::MAX] {
        // The refusal comes before the content.
        let code = raw.decrypt(message(length, b"only the beginning")).await;
        assert_eq!(code, Some(Code::OutOfRange), "{length}");
    }
    let content = vec![0; 1 << 20];
    let code = raw.decrypt(message(1 << 20, &content)).await;
    assert!(code.is_none_or(|code| code == Code::OutOfRange), "{code:?}");
    assert_serves(&mut sidecar).await;
}

#[tokio::test]
async fn compressed_messages_are_refused() {
    let (_place, mut sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    let mut bomb = message(10, &[0; 10]);
    bomb[0] = 1;
    let code = raw.decrypt(bomb).await;
    assert!(
        matches!(code, Some(Code::Internal | Code::Unimplemented)),
        "{code:?}"
    );
    assert_serves(&mut sidecar).await;
}

#[tokio::test]
async fn what_is_no_call_of_ours_is_answered_and_forgotten() {
    let (_place, mut sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    for path in [
        "/",
        "/v2.KeyManagementService/Steal",
        "/v1.Other/Decrypt",
        "/../../etc/passwd",
    ] {
        let answer = raw
            .send(post(path, full(message(0, b""))))
            .await
            .expect("an answer");
        assert_eq!(
            grpc_status(answer).await,
            Some(Code::Unimplemented),
            "{path}"
        );
    }
    let mut get = post(DECRYPT, full(Vec::new()));
    *get.method_mut() = Method::GET;
    let _ = raw.send(get).await;
    let mut other = post(DECRYPT, full(b"{}".to_vec()));
    other
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    let _ = raw.send(other).await;
    assert_serves(&mut sidecar).await;
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let (_place, mut sidecar) = running().await;
    let before = sidecar.resident_kib();
    for _ in 0..20 {
        let raw = Raw::open(&sidecar).await;
        let mut bomb = post(DECRYPT, full(message(0, b"")));
        for number in 0..4000 {
            let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes());
            let value = HeaderValue::from_static("0123456789012345678901234567890123456789");
            bomb.headers_mut().insert(name.expect("a name"), value);
        }
        if let Ok(answer) = raw.send(bomb).await {
            assert!(!answer.status().is_success(), "{answer:?}");
        }
    }
    let after = sidecar.resident_kib();
    assert!(after < before + 8192, "from {before} KiB to {after} KiB");
    assert_serves(&mut sidecar).await;
}

#[tokio::test]
async fn garbage_in_place_of_http_2_ends_its_connection_alone() {
    let (_place, mut sidecar) = running().await;
    let mut random = Random::new(4);
    for number in 0..300 {
        let mut stream = connect(&sidecar).await;
        let mut garbage = if number % 3 == 0 {
            Vec::new()
        } else {
            PREFACE.to_vec()
        };
        let length = random.below(2000);
        garbage.extend(random.bytes(length));
        // It may be closed before all is sent.
        let _ = stream.write_all(&garbage).await;
    }
    let mut stream = UnixStream::connect(sidecar.socket())
        .await
        .expect("listening");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("sent");
    let mut answer: Vec<u8> = Vec::new();
    let closed = within(PROMPT * 4, async || {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await.unwrap_or(0);
        answer.extend(&part[..read]);
        (read == 0).then_some(())
    });
    closed.await.expect("closed soon");
    assert_serves(&mut sidecar).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn connect(sidecar: &Sidecar) -> UnixStream {
    until("there is room in the backlog", async || {
        UnixStream::connect(sidecar.socket()).await.ok()
    })
    .await
}

/// Connects `count` times and sends `greeting` each time. All stay open.
async fn crowd(sidecar: &Sidecar, count: usize, greeting: &[u8]) -> Vec<UnixStream> {
    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connect(sidecar).await;
        let _ = stream.write_all(greeting).await;
        crowd.push(stream);
    }
    crowd
}

#[tokio::test]
async fn a_thousand_silent_clients_hold_up_no_other() {
    let (_place, mut sidecar) = running().await;
    let first = sidecar.ready().await;
    let _crowd = crowd(&sidecar, 1000, b"").await;
    assert_serves(&mut sidecar).await;
    // And who was there before, and called, still is.
    let begin = Instant::now();
    first.round_trip().await;
    assert!(begin.elapsed() < PROMPT);
    let event = sidecar.logged("too many connections to the socket").await;
    assert_eq!(event["level"], "WARN");
}

#[tokio::test]
async fn a_thousand_clients_with_half_a_frame_hold_up_no_other() {
    let (_place, mut sidecar) = running().await;
    let first = sidecar.ready().await;
    // Settings of 18 bytes are announced, and 3 come.
    let half = [PREFACE, &[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0]].concat();
    let _crowd = crowd(&sidecar, 1000, &half).await;
    assert_serves(&mut sidecar).await;
    first.round_trip().await;
}

#[tokio::test]
async fn thousands_of_connections_that_come_and_go_leave_nothing() {
    let (_place, mut sidecar) = running().await;
    // What the allocator keeps for one crowd is there after a few.
    for _ in 0..3 {
        come_and_go(&sidecar).await;
    }
    assert_serves(&mut sidecar).await;
    let before = sidecar.resident_kib();
    for _ in 0..10 {
        come_and_go(&sidecar).await;
    }
    assert_serves(&mut sidecar).await;
    let after = sidecar.resident_kib();
    assert!(after < before + 4096, "from {before} KiB to {after} KiB");
}

/// Five hundred connections, which the sidecar has closed too when this is done: how many it
/// holds at a time, and so its memory, must not depend on which of the two is faster.
async fn come_and_go(sidecar: &Sidecar) {
    drop(crowd(sidecar, 500, PREFACE).await);
    let open = format!("/proc/{}/fd", sidecar.pid());
    until("their descriptors are closed", async || {
        let count = std::fs::read_dir(&open).expect("readable").count();
        (count < 64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn calls_whose_messages_never_arrive_hold_up_no_other_and_end() {
    let (_place, mut sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        calls.spawn(raw.stuck());
    }
    assert_serves(&mut sidecar).await;
    while let Some(ended) = calls.join_next().await {
        let code = ended.expect("no panic");
        assert_eq!(code, Some(Code::DeadlineExceeded));
    }
    assert_serves(&mut sidecar).await;
}

/// Sends one piece, and never ends.
struct Stuck(Option<Bytes>);

impl futures_core::Stream for Stuck {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.0.take() {
            Some(piece) => std::task::Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => std::task::Poll::Pending,
        }
    }
}

#[tokio::test]
async fn more_calls_at_once_than_one_connection_may_have_wait_their_turn() {
    let (_place, mut sidecar) = running().await;
    let client = sidecar.ready().await;
    at_once((0..1000).map(|_| async {
        client.round_trip().await;
    }))
    .await;
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_up_no_other() {
    let (_place, mut sidecar) = running().await;
    // Thousands of pings, whose answers nobody takes.
    let stream = BlockingStream::connect(sidecar.socket()).expect("listening");
    stream.set_nonblocking(true).expect("set");
    let mut stream = UnixStream::from_std(stream).expect("a stream");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut flood = [PREFACE, &settings].concat();
    for _ in 0..100_000 {
        flood.extend(ping);
    }
    let before = sidecar.resident_kib();
    // It stops taking them, or closes; either way this does not go on for ever.
    let _ = tokio::time::timeout(PROMPT, stream.write_all(&flood)).await;
    assert_serves(&mut sidecar).await;
    let after = sidecar.resident_kib();
    assert!(after < before + 8192, "from {before} KiB to {after} KiB");
}

#[tokio::test]
async fn an_empty_request_is_refused() {
    let (_place, sidecar) = running().await;
    let raw = Raw::open(&sidecar).await;
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let answer = raw.send(post(DECRYPT, nothing)).await.expect("an answer");
    assert!(
        grpc_status(answer)
            .await
            .is_some_and(|code| code != Code::Ok)
    );
}
