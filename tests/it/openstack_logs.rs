//! What the client logs at the most talkative level, on good and bad paths.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::support::cloud::{KEY, KEY_ID, PASSWORD, Recorder, client, key_id};
use crate::support::server::{Received, Reply};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic while held").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no panic while held")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Good and bad paths against servers that repeat what they are sent, in every
/// way that they can. Returns the good one's base and the errors.
async fn everything() -> (String, String) {
    let recorder = Recorder {
        pay: vec![503, 200],
        ..Recorder::default()
    };
    let good = recorder.start().await;
    let echo = |request: &Received| {
        let said = String::from_utf8_lossy(&request.body);
        Some(Reply::status(500).body(format!("{:?} {said}", request.headers)))
    };
    let bad = Recorder::default().start_with(None, echo).await;
    let half = Recorder::default()
        .start_with(None, move |request| {
            let read = request.target.ends_with("/payload");
            read.then(|| echo(request).expect("an answer"))
        })
        .await;
    client(&good.base()).key(key_id()).await.expect("a key");
    let first = client(&bad.base()).key(key_id()).await.expect_err("500");
    let second = client(&half.base()).key(key_id()).await.expect_err("500");
    let errors = format!("{first} {first:?} {second} {second:?}");
    (good.base(), errors)
}

#[tokio::test]
async fn requests_are_logged_and_secrets_are_not() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // A test on another thread may have made tracing believe that nobody
    // listens to an event, if it was the first to reach it at the wrong moment.
    everything().await;
    tracing::callsite::rebuild_interest_cache();
    let (base, errors) = everything().await;

    let log = log.text();
    let line = format!("GET {base}/km/v1/secrets/{KEY_ID}/payload");
    assert!(log.contains(&line), "{log}");
    assert!(log.contains("status=200"), "{log}");
    for field in ["elapsed_seconds=", "pause_seconds="] {
        let (_, value) = log.split_once(field).expect("a field of that name");
        let value = value.split_whitespace().next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "{field}{value} is no number");
    }
    let all = format!("{log} {errors}");
    assert!(all.contains("(redacted)"), "{all}");
    let key = String::from_utf8_lossy(&KEY).into_owned();
    for secret in [PASSWORD, "token-1", key.as_str(), "a7a7a7"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}
