//! Each way to change the cloud-config is seen at once.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Scene, View, replace, run, write};
use crate::support::openstack;

const NOT_RELOADED: &str = "configuration not reloaded";
const UNNOTIFIED: &str = "without a notification";

async fn every_way_to_change_a_file(view: View) {
    let mut scene = Scene::start(openstack::plain(), view, &[]).await;
    for _ in 0..3 {
        scene.change("renamed over", replace).await;
    }
    scene.change("written in place", write).await;
    scene
        .change("overwritten without truncation", |path, text| {
            let file = File::options().write(true).open(path).expect("opened");
            file.write_all_at(text.as_bytes(), 0).expect("written");
        })
        .await;
    scene
        .change("installed", |path, text| {
            let source = path.with_extension("source");
            write(&source, text);
            run("install", &[&source, path]);
        })
        .await;
    scene
        .change("deleted and made anew at once", |path, text| {
            fs::remove_file(path).expect("removed");
            write(path, text);
        })
        .await;
    let path = scene.file();
    scene
        .logs(NOT_RELOADED, || fs::remove_file(&path).expect("removed"))
        .await;
    scene.change("made anew after a while", write).await;
    scene
        .change("moved in from elsewhere", |path, text| {
            let elsewhere = tempfile::tempdir().expect("a directory");
            write(&elsewhere.path().join("new"), text);
            run("mv", &[&elsewhere.path().join("new"), path]);
        })
        .await;
    scene
        .change("linked hard", |path, text| {
            let source = path.with_extension("linked");
            write(&source, text);
            fs::remove_file(path).expect("removed");
            fs::hard_link(&source, path).expect("linked");
        })
        .await;
    symbolic_links(&mut scene).await;
    directories(&mut scene).await;
    scene.assert_never_logged(UNNOTIFIED);
    scene.client.round_trip().await;
}

async fn symbolic_links(scene: &mut Scene) {
    // As the kubelet writes a Secret or ConfigMap.
    scene
        .change("laid out as by the kubelet", |path, text| {
            let host = path.parent().expect("a directory");
            fs::create_dir(host.join("..1")).expect("made");
            write(&host.join("..1/cloud.conf"), text);
            symlink("..1", host.join("..data")).expect("linked");
            fs::remove_file(path).expect("removed");
            symlink("..data/cloud.conf", path).expect("linked");
        })
        .await;
    for number in 2..5 {
        scene
            .change("..data swapped", |path, text| {
                let host = path.parent().expect("a directory");
                let new = format!("..{number}");
                fs::create_dir(host.join(&new)).expect("made");
                write(&host.join(&new).join("cloud.conf"), text);
                symlink(&new, host.join("..data_tmp")).expect("linked");
                fs::rename(host.join("..data_tmp"), host.join("..data")).expect("renamed");
                fs::remove_dir_all(host.join(format!("..{}", number - 1))).expect("removed");
            })
            .await;
    }
    let real = scene.host.join("elsewhere/deeper/real.conf");
    fs::create_dir_all(real.parent().expect("a directory")).expect("made");
    scene
        .change("a link to another directory", |path, text| {
            write(&real, text);
            symlink("elsewhere/deeper/real.conf", path.with_extension("link")).expect("linked");
            fs::rename(path.with_extension("link"), path).expect("renamed");
        })
        .await;
    scene
        .change("the link's target renamed over", |_, text| {
            replace(&real, text);
        })
        .await;
    scene
        .change("the link's target written", |_, text| write(&real, text))
        .await;
}

/// The cloud-config is a link to elsewhere/deeper/real.conf.
async fn directories(scene: &mut Scene) {
    let elsewhere = scene.host.join("elsewhere");
    let deeper = elsewhere.join("deeper");
    let real = deeper.join("real.conf");
    for _ in 0..3 {
        scene
            .change("the directory deleted and made anew at once", |_, text| {
                // Also takes the old one's inode number, on most file systems.
                fs::remove_dir_all(&deeper).expect("removed");
                fs::create_dir(&deeper).expect("made");
                write(&real, text);
            })
            .await;
        scene
            .change("a file in the new directory", |_, text| {
                replace(&real, text);
            })
            .await;
    }
    scene
        .change("the directory moved away and replaced", |_, text| {
            let new = elsewhere.join("new");
            fs::create_dir(&new).expect("made");
            write(&new.join("real.conf"), text);
            fs::rename(&deeper, elsewhere.join("old")).expect("renamed");
            fs::rename(&new, &deeper).expect("renamed");
        })
        .await;
    scene
        .logs(NOT_RELOADED, || {
            fs::remove_dir_all(&elsewhere).expect("removed");
        })
        .await;
    scene
        .change("directories that appear later", |_, text| {
            fs::create_dir_all(&deeper).expect("made");
            write(&real, text);
        })
        .await;
    scene
        .change("a file in a directory that appeared", |_, text| {
            replace(&real, text);
        })
        .await;
}

#[tokio::test]
async fn every_change_on_the_host_is_seen_at_once() {
    every_way_to_change_a_file(View::Host).await;
}

#[tokio::test]
async fn every_change_is_seen_at_once_through_a_mounted_directory() {
    every_way_to_change_a_file(View::Mounted).await;
}

#[tokio::test]
async fn a_file_that_is_mounted_by_itself_is_warned_about_and_its_replacement_not_seen() {
    let arguments = &["--slow-check-seconds", "1"];
    let mut scene = Scene::start(openstack::plain(), View::SingleFile, arguments).await;
    let said = scene.sidecar.logged("mounted by itself").await;
    let file = said.get("file").and_then(|file| file.as_str());
    assert!(
        file.is_some_and(|file| file.ends_with("seen/cloud.conf")),
        "{said}"
    );
    // What is written into the mounted file is seen, by the slow check alone.
    scene.settled().await;
    scene.change("written in place", write).await;
    scene.sidecar.logged(UNNOTIFIED).await;
    let before = scene.client.status().await.expect("ready").key_id;
    let text = scene.next();
    replace(&scene.file(), &text);
    // Read again, and found the same.
    scene.settled().await;
    let after = scene.client.status().await.expect("ready").key_id;
    assert_eq!(
        after, before,
        "the documented failure is gone: change the documents"
    );
}

#[tokio::test]
async fn a_mounted_directory_that_is_deleted_on_the_host_is_told() {
    let arguments = &["--slow-check-seconds", "1"];
    let mut scene = Scene::start(openstack::plain(), View::Mounted, arguments).await;
    fs::remove_dir_all(&scene.host).expect("removed");
    scene.sidecar.logged("has been deleted on the host").await;
    scene.sidecar.logged(NOT_RELOADED).await;
    scene.client.round_trip().await;
}

#[tokio::test]
async fn a_change_that_nothing_notifies_is_seen_by_the_slow_check() {
    let arguments = &["--slow-check-seconds", "1"];
    let mut scene = Scene::start(openstack::plain(), View::Host, arguments).await;
    scene.settled().await;
    // Writing through a mapping causes no event; closing the file would.
    let script = "import mmap, sys, time\n\
                  with open(sys.argv[1], 'r+b') as f:\n\
                  \x20   m = mmap.mmap(f.fileno(), 0)\n\
                  \x20   new = open(sys.argv[2], 'rb').read()\n\
                  \x20   m[:] = new\n\
                  \x20   time.sleep(60)\n";
    let text = scene.next();
    let source = scene.place.write("source", &text);
    let mut writer = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(scene.file())
        .arg(&source)
        .spawn()
        .expect("python3 runs");
    scene.applied("written through a mapping").await;
    writer.kill().expect("our child");
    writer.wait().expect("our child");
    scene.sidecar.logged(UNNOTIFIED).await;
}

#[tokio::test]
async fn a_hangup_reads_the_files_again() {
    let mut scene = Scene::start(openstack::plain(), View::Host, &[]).await;
    scene.settled().await;
    scene.change("still watching", replace).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_does_not_take_effect() {
    for _ in 0..5 {
        let mut scene = Scene::start(openstack::plain(), View::Host, &[]).await;
        if written_slowly(&mut scene).await {
            return;
        }
    }
    panic!("this machine is too busy to write a piece in time, five times in a row");
}

/// Every prefix from the first piece on is a valid configuration that would be refused.
/// Whether the pieces came fast enough for the debounce.
async fn written_slowly(scene: &mut Scene) -> bool {
    let text = scene.next();
    let (before, after) = text.split_once("decrypt-key-ids").expect("it is there");
    let mut slowest = Duration::ZERO;
    let mut file = File::create(scene.file()).expect("made");
    let mut put = |piece: &str| {
        let began = Instant::now();
        file.write_all(piece.as_bytes()).expect("written");
        std::thread::sleep(Duration::from_millis(40));
        slowest = slowest.max(began.elapsed());
    };
    put(before);
    for _ in 0..40 {
        put("# the writer takes its time\n");
    }
    put("decrypt-key-ids");
    put(after);
    if slowest > Duration::from_millis(120) {
        return false;
    }
    scene.applied("written slowly").await;
    scene.assert_never_logged(NOT_RELOADED);
    true
}

#[tokio::test]
async fn ten_thousand_events_hide_no_change_and_hold_up_no_call() {
    let mut scene = Scene::start(openstack::plain(), View::Host, &[]).await;
    let text = scene.next();
    let path = scene.file();
    let host = scene.host.clone();
    let storm = tokio::task::spawn_blocking(move || {
        for number in 0..2500 {
            if number == 1250 {
                replace(&path, &text);
            }
            // Each makes, writes, renames and removes: at least four events.
            let name = host.join(format!("noise-{number}"));
            write(&name, "noise");
            fs::rename(&name, host.join("noise")).expect("renamed");
            fs::remove_file(host.join("noise")).expect("removed");
        }
    });
    let mut calls = 0;
    while !storm.is_finished() {
        scene.client.round_trip().await;
        calls += 1;
    }
    storm.await.expect("no panic");
    println!("{calls} calls during the storm");
    scene.applied("changed amid 10,000 events").await;
    scene.assert_never_logged(UNNOTIFIED);
    scene.change("still watching", replace).await;
}

#[tokio::test]
async fn an_overflow_of_the_event_queue_hides_no_change() {
    let mut scene = Scene::start(openstack::plain(), View::Host, &[]).await;
    let limit = crate::support::read_text(Path::new("/proc/sys/fs/inotify/max_queued_events"));
    let limit: usize = limit.trim().parse().expect("a number");
    scene.sidecar.signal(Signal::STOP);
    for number in 0..=limit {
        // Equal events in a row would be merged.
        write(&scene.host.join(format!("noise-{}", number % 2)), "noise");
    }
    let text = scene.next();
    replace(&scene.file(), &text);
    scene.sidecar.signal(Signal::CONT);
    scene.applied("changed after the overflow").await;
    scene.assert_never_logged(UNNOTIFIED);
    scene.change("still watching", replace).await;
}
