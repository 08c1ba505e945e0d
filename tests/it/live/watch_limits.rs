//! inotify has limits for each user. Without it, the slow check goes on.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::{Scene, all_held, replace, ring, state, write};
use crate::support::openstack;
use crate::support::sidecar::{BINARY, Place};

/// In a user namespace of its own, where the limit can be lowered.
async fn start(limit: &str, value: &str, slow_check: &str) -> Scene {
    let openstack = openstack::plain();
    let place = Place::new("");
    let host = place.path("host");
    std::fs::create_dir(&host).expect("made");
    write(
        &host.join("cloud.conf"),
        &ring(openstack, openstack.key(0), &[openstack.key(1)]),
    );
    let script = "echo \"$2\" >\"/proc/sys/user/$1\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .args([limit, value, BINARY, "serve", "--socketpath"])
        .arg(place.socket())
        .arg("--cloud-config")
        .arg(host.join("cloud.conf"))
        .args(["--slow-check-seconds", slow_check])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut sidecar = place.spawn(command);
    let client = sidecar.ready().await;
    sidecar
        .until("every key is held", async |_| {
            all_held(&state(&place.socket()).await).then_some(())
        })
        .await;
    Scene {
        openstack,
        place,
        host,
        sidecar,
        client,
        swapped: false,
        login: "password",
    }
}

fn raise(scene: &Scene, limit: &str) {
    let pid = scene.sidecar.pid().as_raw_nonzero().to_string();
    let script = format!("echo 100 >/proc/sys/user/{limit}");
    let status = Command::new("nsenter")
        .args(["--target", &pid, "--user", "--preserve-credentials"])
        .args(["sh", "-c", &script])
        .status();
    assert!(status.expect("it runs").success());
}

async fn goes_on_without(limit: &str, hint: &str) {
    let mut scene = start(limit, "0", "1").await;
    let warning = scene.sidecar.logged("not detected at once").await;
    let message = warning.get("message").and_then(Value::as_str);
    assert!(message.is_some_and(|text| text.contains(hint)), "{warning}");
    scene.change("by the slow check", replace).await;
    scene.change("by the slow check again", write).await;
    assert_eq!(scene.count_of("not detected at once"), 1, "said once");
    raise(&scene, limit);
    scene.sidecar.logged("detected at once again").await;
    scene.change("at once", replace).await;
}

#[tokio::test]
async fn without_inotify_instances_the_slow_check_goes_on() {
    goes_on_without("max_inotify_instances", "fs.inotify.max_user_instances").await;
}

#[tokio::test]
async fn without_inotify_watches_the_slow_check_goes_on() {
    goes_on_without("max_inotify_watches", "fs.inotify.max_user_watches").await;
}

#[tokio::test]
async fn without_inotify_a_hangup_reloads_at_once() {
    let mut scene = start("max_inotify_instances", "0", "3600").await;
    let text = scene.next();
    replace(&scene.file(), &text);
    scene.sidecar.signal(Signal::HUP);
    scene.applied("by SIGHUP").await;
}
