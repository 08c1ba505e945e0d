//! The log when nobody reads it: calls go on, the end comes, and what is lost is said.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::time::{Duration, Instant};

use barbican_kms::proto::v2;
use rustix::io::Errno;
use serde_json::Value;

use crate::support::client::{Client, refusal, request};
use crate::support::cloud::{Recorder, cloud_config};
use crate::support::patience::at_once;
use crate::support::scrape::{Scrape, Target};
use crate::support::server::Server;
use crate::support::sidecar::{Place, Sidecar};

/// As long as kube-apiserver waits.
const PROMPT: Duration = Duration::from_secs(3);

/// Each is an event at level debug.
const CALLS: usize = 100_000;

/// A sidecar at level debug whose standard error is a pipe.
struct Piped {
    _server: Server,
    _place: Place,
    sidecar: Sidecar,
    log: BufReader<PipeReader>,
}

async fn piped() -> (Piped, Target) {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let (reader, writer) = pipe().expect("a pipe");
    let arguments = ["--log-level", "debug", "--metrics-address", "127.0.0.1:0"];
    let sidecar = place.spawn_to(place.serve(&arguments), Some(writer.into()));
    let mut piped = Piped {
        _server: server,
        _place: place,
        sidecar,
        log: BufReader::new(reader),
    };
    let event = piped.read_until("serving metrics").last().cloned();
    let event = event.expect("it is there");
    let target = Target::at(event["address"].as_str().expect("an address"));
    (piped, target)
}

impl Piped {
    /// Reads up to the first event with this message, that one included.
    fn read_until(&mut self, text: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).expect("a pipe");
            assert_ne!(length, 0, "the log has ended without {text:?}");
            let event: Value = serde_json::from_str(&line).expect("whole lines");
            let message = event["message"].as_str().unwrap_or_default().to_owned();
            events.push(event);
            if message.contains(text) {
                return events;
            }
        }
    }
}

/// Many calls, each of which must be answered in time.
async fn call_many(client: &Client) {
    let wrapped = client.round_trip().await;
    let wrong = v2::DecryptRequest {
        key_id: String::new(),
        ..request(&wrapped)
    };
    let calls = (0..100).map(|_| async {
        for _ in 0..CALLS / 100 {
            let answer = tokio::time::timeout(PROMPT, client.send(wrong.clone())).await;
            refusal(answer.expect("prompt"));
        }
    });
    at_once(calls).await;
    let round_trip = tokio::time::timeout(PROMPT, client.round_trip()).await;
    round_trip.expect("prompt");
}

fn dropped(scrape: &Scrape) -> i64 {
    scrape.count("log_lines_total{outcome=\"dropped\"}")
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_call_and_says_later_what_was_lost() {
    let (mut piped, target) = piped().await;
    let client = piped.sidecar.ready().await;
    call_many(&client).await;
    let lost = dropped(&target.scrape().await);
    // The pipe and the queue hold some thousands.
    assert!(lost > 50_000, "only {lost} lines were dropped");

    // Reading goes on.
    let events = piped.read_until("log lines were dropped");
    let event = events.last().expect("it is there");
    assert_eq!(event["level"], "WARN");
    assert!(event["dropped"].as_i64() >= Some(lost), "{event}");
    let scrape = target.scrape().await;
    assert_eq!(event["dropped"].as_i64(), Some(dropped(&scrape)));

    piped.sidecar.signal(rustix::process::Signal::TERM);
    piped.read_until("stopped");
    assert_eq!(piped.sidecar.ended().await.code, 0);
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_end() {
    let (mut piped, _) = piped().await;
    let client = piped.sidecar.ready().await;
    call_many(&client).await;
    let begin = Instant::now();
    assert_eq!(piped.sidecar.stop().await.code, 0);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// As full as a pipe can be.
fn fill(pipe: &mut PipeWriter) {
    rustix::io::ioctl_fionbio(&*pipe, true).expect("a pipe");
    for size in [4096, 1] {
        while pipe.write(&vec![b'x'; size]).is_ok() {}
    }
    let full = rustix::io::write(&*pipe, b"x");
    assert_eq!(full, Err(Errno::AGAIN));
    rustix::io::ioctl_fionbio(&*pipe, false).expect("a pipe");
}

#[tokio::test]
async fn a_start_that_fails_ends_although_nobody_reads_why() {
    let place = Place::new("[Global]\n");
    let (_reader, mut writer) = pipe().expect("a pipe");
    fill(&mut writer);
    let mut sidecar = place.spawn_to(place.serve(&[]), Some(writer.into()));
    assert_eq!(sidecar.ended().await.code, 64);
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_holds_up_nothing() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let arguments = ["--log-level", "debug"];
    let mut sidecar = place.spawn_to(place.serve(&arguments), Some(writer.into()));
    sidecar.ready().await.round_trip().await;
    assert_eq!(sidecar.stop().await.code, 0);
}
