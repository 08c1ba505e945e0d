//! The audit log: what is in it, and what becomes of calls when it cannot be written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{refusal, request};
use crate::support::cloud::{KEY_ID, Recorder, cloud_config};
use crate::support::read_text;
use crate::support::scrape::Target;
use crate::support::sidecar::{Place, Sidecar};

fn lines(path: &Path) -> Vec<Value> {
    if !path.exists() {
        return Vec::new();
    }
    let text = read_text(path);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

async fn until_lines(sidecar: &mut Sidecar, path: &Path, count: usize) -> Vec<Value> {
    sidecar
        .until("lines of the audit log", async |_| {
            Some(lines(path)).filter(|lines| lines.len() >= count)
        })
        .await
}

#[tokio::test]
async fn each_encrypt_and_decrypt_is_one_line_for_the_owner_alone() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let path = place.path("audit.log");
    let mut sidecar = place.start_with(&["--audit-log", "audit.log"]);
    let client = sidecar.ready().await;
    let wrapped = client.round_trip().await;
    let mut strange = request(&wrapped);
    strange.key_id = "no key id".to_owned();
    refusal(client.send(strange).await);
    assert_eq!(sidecar.stop().await.code, 0);

    let lines = lines(&path);
    assert_eq!(lines.len(), 3, "all is written when the process ends");
    let text = |line: usize, field: &str| lines[line][field].as_str().map(str::to_owned);
    assert_eq!(text(0, "call").as_deref(), Some("Encrypt"));
    assert_eq!(text(0, "uid").as_deref(), Some("test-encrypt"));
    assert_eq!(text(0, "outcome").as_deref(), Some("ok"));
    assert_eq!(text(1, "call").as_deref(), Some("Decrypt"));
    assert_eq!(text(1, "key_id").as_deref(), Some(KEY_ID));
    assert_eq!(text(2, "outcome").as_deref(), Some("refused"));
    assert_eq!(
        text(2, "key_id"),
        None,
        "what a client sends is not written"
    );
    let mode = path.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_renamed_file_is_left_after_a_hangup_and_no_line_is_lost() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let (path, old) = (place.path("audit.log"), place.path("audit.log.1"));
    let mut sidecar = place.start_with(&["--audit-log", "audit.log"]);
    let client = sidecar.ready().await;
    client.round_trip().await;
    until_lines(&mut sidecar, &path, 2).await;
    std::fs::rename(&path, &old).expect("renamed");
    sidecar.signal(Signal::HUP);
    sidecar.logged_times("audit log opened", 2).await;
    client.round_trip().await;
    until_lines(&mut sidecar, &path, 2).await;
    assert_eq!(lines(&old).len(), 2);
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_written_fails_no_call_and_is_counted() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start_with(&[
        "--audit-log",
        "missing/audit.log",
        "--metrics-address",
        "127.0.0.1:0",
    ]);
    let client = sidecar.ready().await;
    for _ in 0..3 {
        client.round_trip().await;
    }
    let event = sidecar.logged("the audit log cannot be written").await;
    assert_eq!(event["level"], "ERROR");
    let target = Target::of(&mut sidecar).await;
    sidecar
        .until("dropped lines", async |_| {
            let scrape = target.scrape().await;
            Some(()).filter(|()| scrape.count("audit_lines_total{outcome=\"dropped\"}") == 6)
        })
        .await;
    std::fs::create_dir(place.path("missing")).expect("a directory");
    let path = place.path("missing/audit.log");
    sidecar
        .until("lines again", async |_| {
            client.round_trip().await;
            Some(()).filter(|()| !lines(&path).is_empty())
        })
        .await;
}
