//! The audit log: what is in it, and what becomes of calls when it cannot be written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{SEED, refusal, request};
use crate::support::cloud::{KEY_ID, Recorder, cloud_config, payloads};
use crate::support::read_text;
use crate::support::scrape::Target;
use crate::support::server::Reply;
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
    a_renamed_file_is_left_after(async |sidecar| {
        sidecar.signal(Signal::HUP);
        sidecar.logged_times("audit log opened", 2).await;
    })
    .await;
}

#[tokio::test]
async fn the_line_a_second_after_a_renaming_goes_to_the_new_file_without_a_signal() {
    a_renamed_file_is_left_after(async |_| {
        tokio::time::sleep(Duration::from_millis(1100)).await;
    })
    .await;
}

async fn a_renamed_file_is_left_after(something: impl AsyncFnOnce(&mut Sidecar)) {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let (path, old) = (place.path("audit.log"), place.path("audit.log.1"));
    let mut sidecar = place.start_with(&["--audit-log", "audit.log"]);
    let client = sidecar.ready().await;
    client.round_trip().await;
    until_lines(&mut sidecar, &path, 2).await;
    std::fs::rename(&path, &old).expect("renamed");
    something(&mut sidecar).await;
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

#[tokio::test]
async fn a_full_disk_fails_no_call_and_is_said_once() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let metrics = ["--metrics-address", "127.0.0.1:0"];
    let mut sidecar = place.start_with(&[&["--audit-log", "/dev/full"], &metrics[..]].concat());
    let client = sidecar.ready().await;
    for _ in 0..5 {
        client.round_trip().await;
    }
    let target = Target::of(&mut sidecar).await;
    sidecar
        .until("dropped lines", async |_| {
            let scrape = target.scrape().await;
            Some(()).filter(|()| scrape.count("audit_lines_total{outcome=\"dropped\"}") == 10)
        })
        .await;
    let event = sidecar.logged("cannot be written").await.to_string();
    assert!(event.contains("No space left on device"), "{event}");
    let log = sidecar.errors();
    assert_eq!(log.matches("cannot be written").count(), 1, "{log}");
}

/// A file system of two pages; gone when dropped.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir(&path).expect("made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs"]);
        let mounted = mount.arg(&path).output();
        let mounted = mounted.expect("mount runs");
        assert!(mounted.status.success(), "only root may mount: {mounted:?}");
        Self(path)
    }

    /// Leaves one page for others.
    fn fill(&self) {
        std::fs::write(self.0.join("filler"), [b'x'; 4096]).expect("there is room");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was there");
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_has_room_again_is_written_to_and_no_line_is_glued_to_half_of_one() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let disk = Tiny::mount(place.path("disk"));
    disk.fill();
    let mut sidecar = place.start_with(&["--audit-log", "disk/audit.log"]);
    let client = sidecar.ready().await;
    sidecar
        .until("a full disk", async |sidecar| {
            client.round_trip().await;
            Some(()).filter(|()| sidecar.errors().contains("cannot be written"))
        })
        .await;
    disk.make_room();
    sidecar
        .until("room again", async |sidecar| {
            client.round_trip().await;
            Some(()).filter(|()| {
                sidecar
                    .errors()
                    .contains("the audit log can be written again")
            })
        })
        .await;
    // The next time is said as well.
    sidecar
        .until("a full disk again", async |sidecar| {
            client.round_trip().await;
            let said = sidecar.errors();
            Some(()).filter(|()| said.matches("cannot be written").count() == 2)
        })
        .await;
    assert_eq!(sidecar.stop().await.code, 0);

    let text = read_text(&disk.0.join("audit.log"));
    let torn: Vec<&str> = text
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_err())
        .collect();
    assert!(torn.len() <= 2, "one for each time: {torn:?}");
    for line in torn {
        assert_eq!(line.matches('{').count(), 1, "glued: {line}");
    }
}

#[tokio::test]
async fn a_call_whose_client_leaves_is_one_line_too() {
    let server = payloads(|_| Reply::Stall(Vec::new())).await;
    let place = Place::new(&cloud_config(&server));
    let path = place.path("audit.log");
    let mut sidecar = place.start_with(&["--audit-log", "audit.log", "--log-level", "debug"]);
    let client = sidecar.client().await;
    let patience = Duration::from_millis(300);
    let answer = tokio::time::timeout(patience, client.encrypt(SEED)).await;
    assert!(answer.is_err(), "the key never comes: {answer:?}");
    let lines = until_lines(&mut sidecar, &path, 1).await;
    assert_eq!(lines[0]["call"], "Encrypt");
    assert_eq!(lines[0]["uid"], "test-encrypt");
    assert_eq!(lines[0]["outcome"], "cancelled");
    assert_eq!(lines[0]["reason"], Value::Null);
    let event = sidecar
        .logged("cancelled: the client has disconnected")
        .await;
    assert_eq!(event["call"], "encrypt");
    assert_eq!(event["uid"], "test-encrypt");
    assert_eq!(sidecar.stop().await.code, 0);
    assert_eq!(self::lines(&path).len(), 1, "and no second one");
}
