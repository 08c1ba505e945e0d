//! What every command prints, success and failure, as it looks away from a terminal:
//! compared with the files in `output/`.
//!
//! After a wanted change: `UPDATE_OUTPUT=1 cargo test --test it output`, and look at
//! the difference.

use std::path::{Path, PathBuf};
use std::process::Command;

use barbican_kms::key_id::KeyId;

use crate::support::cloud::{KEY_ID, Recorder, cloud_config};
use crate::support::read_text;
use crate::support::server::Server;
use crate::support::sidecar::{BINARY, Place, Said, barbican_kms, run};

const OTHER_KEY: &str = "11111111-2222-4333-8444-555555555555";

/// A port that nobody listens on: it is reserved (TCPMUX) and unused.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Compares with the file `name`, or writes it when asked to.
fn assert_output(name: &str, said: &Said, changing: &[(&str, &str)]) {
    let shown = format!(
        "exit code {}\n--- output\n{}--- errors\n{}",
        said.code, said.output, said.errors
    );
    let shown = steady(&shown, changing);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/output/{name}.txt"));
    if std::env::var_os("UPDATE_OUTPUT").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, &shown).expect("written");
        return;
    }
    let expected = read_text(&path);
    assert_eq!(shown, expected, "\n{name} is now\n{shown}");
}

/// Without what differs from run to run.
fn steady(text: &str, changing: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in changing {
        text = text.replace(from, to);
    }
    let lines: Vec<String> = text.lines().map(steady_line).collect();
    lines.join("\n") + "\n"
}

/// Times and durations become `_`.
fn steady_line(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut steady: Vec<String> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let number = !word.is_empty() && word.chars().all(|one| one.is_ascii_digit());
        let time = word.len() >= 20 && word.starts_with("20") && word.contains('T');
        if time || (number && (next == "ms" || next == "s")) {
            while steady.last().is_some_and(String::is_empty) {
                steady.pop();
            }
            steady.push("_".to_owned());
        } else {
            steady.push((*word).to_owned());
        }
    }
    steady.join(" ")
}

/// Whether there is `memfd_secret` depends on the machine.
fn without_memory(output: &str) -> String {
    let lines = output.lines();
    let others =
        lines.filter(|line| !line.contains("key memory") && !line.contains("memfd_secret"));
    others.map(|line| line.to_owned() + "\n").collect()
}

#[tokio::test]
async fn help_of_every_command() {
    for command in ["serve", "probe", "status", "rotate", "check", "version"] {
        let said = barbican_kms(&[command, "--help"]).await;
        assert_output(&format!("help-{command}"), &said, &[]);
    }
    assert_output("help", &barbican_kms(&["--help"]).await, &[]);
    assert_output("version", &barbican_kms(&["version"]).await, &[]);
}

#[tokio::test]
async fn check_of_a_good_setup() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let directory = place.path("").display().to_string();
    let base = server.base();
    let address = base.trim_start_matches("http://");
    let changing = [(directory.as_str(), "DIRECTORY/"), (address, "SERVER")];
    let mut said = place.check(&[]).await;
    said.output = without_memory(&said.output);
    assert_output("check-good", &said, &changing);
}

#[tokio::test]
async fn check_of_setups_that_do_not_work() {
    let refusing = Recorder {
        auth: vec![401],
        ..Recorder::default()
    };
    let refusing = refusing.start().await;
    let denying = Recorder {
        pay: vec![403],
        ..Recorder::default()
    };
    let denying = denying.start().await;
    let good = cloud_config(&refusing);
    for (name, config, server) in [
        ("check-wrong-file", good.replace("key-id", "key-di"), None),
        (
            "check-nobody",
            good.replace(&refusing.base(), NOWHERE),
            None,
        ),
        ("check-login-refused", good.clone(), Some(&refusing)),
        (
            "check-access-denied",
            cloud_config(&denying),
            Some(&denying),
        ),
    ] {
        let place = Place::new(&config);
        let directory = place.path("").display().to_string();
        let base = server.map_or_else(|| NOWHERE.to_owned(), Server::base);
        let address = base.trim_start_matches("http://");
        let changing = [(directory.as_str(), "DIRECTORY/"), (address, "SERVER")];
        let mut said = place.check(&[]).await;
        said.output = without_memory(&said.output);
        assert_output(name, &said, &changing);
    }
}

#[tokio::test]
async fn check_of_the_files_of_kubernetes() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("static-pod");
    let good = |name: &str| read_text(&shipped.join(name));
    let place = Place::new("");
    let mut wrong = good("encryption-config.yaml");
    wrong = wrong
        .replace("      apiVersion: v2\n", "")
        .replace("timeout: 3s", "cachesize: 5");
    let pod = good("kube-apiserver.yaml");
    let wrong_pod = pod.replace("    restartPolicy: Always\n", "");
    for (name, config, manifest) in [
        (
            "check-kubernetes-good",
            &good("encryption-config.yaml"),
            &pod,
        ),
        ("check-kubernetes-wrong", &wrong, &wrong_pod),
    ] {
        place.write("encryption.yaml", config);
        place.write("pod.yaml", manifest);
        let mut command = place.command("check");
        command.args([
            "--encryption-config",
            "config/encryption.yaml",
            "--manifest",
            "config/pod.yaml",
        ]);
        assert_output(name, &run(command).await, &[]);
    }
}

async fn status(place: &Place, more: &[&str]) -> Said {
    let mut command = place.command("status");
    command.arg("--socketpath").arg(place.socket()).args(more);
    run(command).await
}

#[tokio::test]
async fn probes_and_status_of_a_sidecar_that_is_ready() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start();
    sidecar.ready().await;
    for (name, arguments) in [
        ("probe-alive", &[][..]),
        ("probe-ready", &["--ready"]),
        ("probe-deep", &["--deep"]),
    ] {
        assert_output(name, &place.probe(arguments).await, &[]);
    }
    let mut said = status(&place, &[]).await;
    said.output = said
        .output
        .replace("memfd_secret", "MEMORY")
        .replace("mlock", "MEMORY");
    assert_output("status-ready", &said, &[]);
}

#[tokio::test]
async fn probes_and_status_of_a_sidecar_that_is_not() {
    let config = format!(
        "[Global]\nauth-url = {NOWHERE}\nuser-id = u\npassword = p\ntenant-id = T\n\
         [KeyManager]\nkey-id = {KEY_ID}\n"
    );
    let place = Place::new(&config);
    let socket = place.socket().display().to_string();
    let nobody = [(socket.as_str(), "SOCKET")];
    assert_output("probe-nobody", &place.probe(&[]).await, &nobody);
    assert_output("status-nobody", &status(&place, &[]).await, &nobody);
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    sidecar.unavailable(&client, "cannot be reached").await;
    assert_output("probe-not-ready", &place.probe(&["--ready"]).await, &nobody);
    let mut said = status(&place, &[]).await;
    said.output = said
        .output
        .replace("memfd_secret", "MEMORY")
        .replace("mlock", "MEMORY");
    let failures = |line: &str| match line.split_once("never, ") {
        Some((before, _)) => format!("{before}never, N failures since\n"),
        None => format!("{line}\n"),
    };
    said.output = said.output.lines().map(failures).collect();
    assert_output("status-not-ready", &said, &[]);
}

#[tokio::test]
async fn rotate_with_and_without_a_new_key() {
    let config = format!(
        "[Global]\nauth-url = {NOWHERE}\nuser-id = u\npassword = p\ntenant-id = T\n\
         [KeyManager]\nkey-id = {KEY_ID}\n"
    );
    let place = Place::new(&config);
    let rotate = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        command.env_clear().current_dir(place.path(""));
        command
            .args(["rotate", "--cloud-config", "config/cloud.conf"])
            .args(more);
        command
    };
    let other: KeyId = OTHER_KEY.parse().expect("a key id");
    let other = other.to_string();
    assert_output("rotate", &run(rotate(&[])).await, &[]);
    let known = run(rotate(&["--new-key-id", &other])).await;
    assert_output("rotate-to", &known, &[]);
    let same = run(rotate(&["--new-key-id", KEY_ID])).await;
    assert_output("rotate-to-the-same", &same, &[]);
}

#[test]
fn nothing_printed_away_from_a_terminal_has_colours() {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/output");
    for entry in directory.read_dir().expect("snapshots") {
        let text = read_text(&entry.expect("an entry").path());
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
