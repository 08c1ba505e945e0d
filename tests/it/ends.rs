//! The process ends in time and in good order, whatever it is in the middle of.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::hostile::Raw;
use crate::support::cloud::{cloud_config, payloads};
use crate::support::scrape::Target;
use crate::support::server::Reply;
use crate::support::sidecar::{BINARY, Place};

/// The resolver's own patience, which is not to become the process's.
const RESOLVER_SECONDS: u64 = 30;

#[tokio::test]
async fn a_name_lookup_that_hangs_holds_up_no_end() {
    // Another loopback address than real resolvers use.
    let resolver = UdpSocket::bind("127.77.0.1:53").expect("only root may; nobody else has it");
    let place = Place::new(
        "[Global]\nauth-url = http://keystone.example/v3\nusername = u\npassword = p\n\
         tenant-id = t\ndomain-id = d\n\
         [KeyManager]\nkey-id = b5309dfb-b326-4148-b0ad-e9cd1ec223a8\n",
    );
    let resolv_conf = place.write(
        "resolv.conf",
        &format!("nameserver 127.77.0.1\noptions timeout:{RESOLVER_SECONDS} attempts:1\n"),
    );
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg("sh")
        .arg(resolv_conf)
        .args([BINARY, "serve", "--socketpath"])
        .arg(place.socket())
        .arg("--cloud-config")
        .arg(place.config());
    let mut sidecar = place.spawn(command);
    let asked = tokio::task::spawn_blocking(move || {
        let patience = Some(Duration::from_secs(60));
        resolver.set_read_timeout(patience).expect("a time");
        resolver.recv(&mut [0; 512]).map(|_| resolver)
    });
    let resolver = asked.await.expect("no panic").expect("a name is looked up");
    let begin = Instant::now();
    sidecar.signal(Signal::TERM);
    let said = sidecar.ended().await;
    assert_eq!(said.code, 0, "{said:?}");
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(RESOLVER_SECONDS / 3), "{took:?}");
    drop(resolver);
}

#[tokio::test]
async fn a_call_that_does_not_end_and_an_audit_log_that_hangs_hold_up_no_end() {
    let server = payloads(|_| Reply::Stall(Vec::new())).await;
    let place = Place::new(&cloud_config(&server));
    // Nobody opens its other end.
    let made = Command::new("mkfifo").arg(place.path("audit.log")).status();
    assert!(made.expect("mkfifo runs").success());
    let mut sidecar = place.start_with(&[
        "--audit-log",
        "audit.log",
        "--metrics-address",
        "127.0.0.1:0",
    ]);
    sidecar.client().await;
    let raw = Raw::open(&sidecar).await;
    let mut stuck = JoinSet::new();
    stuck.spawn(raw.stuck());
    let target = Target::of(&mut sidecar).await;
    sidecar
        .until("the call is under way", async |_| {
            let scrape = target.scrape().await;
            let under_way = scrape.count("requests_in_flight{method=\"Decrypt\"}");
            (under_way == 1).then_some(())
        })
        .await;
    let begin = Instant::now();
    let said = sidecar.stop().await;
    let took = begin.elapsed();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.errors.contains("calls in flight were cut off"),
        "{said:?}"
    );
    // Five seconds, and some for a busy machine.
    assert!(took < Duration::from_millis(6500), "{took:?}");
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_reason_to_panic() {
    for arguments in [&["version"][..], &["check", "--cloud-config", "/no/such"]] {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        let said = child.wait_with_output().expect("our child");
        let errors = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.code() < Some(2), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
