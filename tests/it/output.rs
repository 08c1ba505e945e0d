//! What every command prints, success and failure, as it looks away from a terminal:
//! compared with the files in `output/`.
//!
//! After a wanted change: `UPDATE_OUTPUT=1 cargo test --test it output`, and look at
//! the difference.

use std::path::{Path, PathBuf};
use std::process::Command;

use std::time::Duration;

use barbican_kms::cli::check::{self, Files, Step};
use barbican_kms::cli::terminal::Terminal;
use barbican_kms::key_id::KeyId;

use crate::support::cloud::{
    KEY_ID, Recorder, cloud_config, container, container_config, with_container,
};
use crate::support::pki::{Authority, acceptor, params};
use crate::support::read_text;
use crate::support::server::{Received, Reply, Server};
use crate::support::sidecar::{BINARY, CommandOutput, Place, Sidecar, barbican_kms, run};

const OTHER_KEY: &str = "11111111-2222-4333-8444-555555555555";

/// A port that nobody listens on: it is reserved (TCPMUX) and unused.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Compares with the file `name`, or writes it when asked to.
fn assert_output(name: &str, said: &CommandOutput, changing: &[(&str, &str)]) {
    let shown = format!(
        "exit code {}\n--- output\n{}--- errors\n{}",
        said.code, said.output, said.errors
    );
    assert_text(name, &shown, changing);
}

/// The same for a text as it looks on a terminal, whose escape codes are shown as `^[`.
fn assert_on_terminal(name: &str, shown: &str, changing: &[(&str, &str)]) {
    let shown = shown.replace('\u{1b}', "^[");
    assert_text(&format!("terminal/{name}"), &shown, changing);
}

fn assert_text(name: &str, shown: &str, changing: &[(&str, &str)]) {
    let shown = steady(shown, changing);
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

/// Times and durations become `_`, in JSON as well.
fn steady_line(line: &str) -> String {
    const OF_JSON: [&str; 9] = [
        "took_ms",
        "at",
        "in_force_since",
        "last_contact",
        "confirmed_seconds_ago",
        "read_at",
        "write_key_age_seconds",
        "last_wrapped_seconds_ago",
        "last_unwrapped_seconds_ago",
    ];
    if let Some((name, _)) = line.trim_start().split_once("\": ")
        && OF_JSON
            .iter()
            .any(|one| name.strip_prefix('"') == Some(one))
    {
        let comma = if line.ends_with(',') { "," } else { "" };
        let head = line.split_once(": ").map_or(line, |(head, _)| head);
        return format!("{head}: _{comma}");
    }
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
            // In JSON a quotation mark and a comma may follow.
            let after = word.rsplit_once('Z').map_or("", |(_, after)| after);
            steady.push(format!("_{after}"));
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
    assert_check("check-good", &place, &server.base()).await;
}

/// What `check` says of this place, whose servers are at `base`.
async fn assert_check(name: &str, place: &Place, base: &str) {
    let directory = place.path("").display().to_string();
    let (_, address) = base.split_once("://").expect("a URL");
    let port = address.split(':').next_back().expect("a port");
    let port = format!("invalid:{port}");
    let changing = [
        (directory.as_str(), "DIRECTORY/"),
        (address, "SERVER"),
        (&port, "invalid:PORT"),
    ];
    let mut said = place.check(&[]).await;
    said.output = without_memory(&said.output);
    // What comes after this is the system's.
    if let Some((before, after)) = said.output.split_once("failed to lookup address") {
        let (_, rest) = after.split_once('\n').expect("a fix");
        said.output = format!("{before}failed to lookup address ...\n{rest}");
    }
    assert_output(name, &said, &changing);
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
    let failing = Recorder {
        auth: vec![500; 9],
        ..Recorder::default()
    };
    let failing = failing.start().await;
    let good = cloud_config(&refusing);
    for (name, config, server) in [
        ("check-wrong-file", good.replace("key-id", "key-di"), None),
        (
            "check-nobody",
            good.replace(&refusing.base(), NOWHERE),
            None,
        ),
        ("check-login-refused", good.clone(), Some(&refusing)),
        ("check-login-fails", cloud_config(&failing), Some(&failing)),
        (
            "check-access-denied",
            cloud_config(&denying),
            Some(&denying),
        ),
    ] {
        let base = server.map_or_else(|| NOWHERE.to_owned(), Server::base);
        assert_check(name, &Place::new(&config), &base).await;
    }
}

#[tokio::test]
async fn check_of_the_files_of_kubernetes() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("static-pod");
    let good = |name: &str| read_text(&shipped.join(name));
    let place = Place::new("");
    let directory = place.path("").display().to_string();
    let changing = [(directory.as_str(), "DIRECTORY/")];
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
        place.write("encryption-config.yaml", config);
        place.write("pod.yaml", manifest);
        assert_output(name, &kubernetes(&place).await, &changing);
    }
    // Any patch will not do.
    let patches = place.path("patches");
    std::fs::create_dir(&patches).expect("made");
    let other = patches.join("kube-apiserver0+merge.yaml");
    std::fs::write(other, "metadata: {}\n").expect("written");
    let said = kubernetes(&place).await;
    assert!(said.output.contains("write it again without"), "{said:?}");
    let patch = good("kubeadm/patches/kube-apiserver-barbican-kms+strategic.yaml");
    let ours = patches.join("kube-apiserver1+strategic.yaml");
    std::fs::write(ours, patch).expect("written");
    let said = kubernetes(&place).await;
    assert!(!said.output.contains("write it again without"), "{said:?}");

    place.write("encryption-config.yaml", "kind: [\n");
    assert_output(
        "check-kubernetes-broken",
        &kubernetes(&place).await,
        &changing,
    );
}

async fn kubernetes(place: &Place) -> CommandOutput {
    let mut command = place.command("check");
    command.args([
        "--encryption-config",
        "config/encryption-config.yaml",
        "--manifest",
        "config/pod.yaml",
    ]);
    run(command).await
}

#[tokio::test]
async fn check_of_clouds_that_are_not_as_configured() {
    let missing = Recorder {
        pay: vec![404],
        ..Recorder::default()
    };
    let missing = missing.start().await;
    let short = Recorder::default().start_with(None, |request| {
        let read = request.target.ends_with("/payload");
        read.then(|| Reply::status(200).body(vec![b'k'; 31]))
    });
    let short = short.await;
    let own = Authority::new("own").issue(&params());
    let secure = Recorder::default().start_with(Some(acceptor(&own, None)), |_| None);
    let secure = secure.await;
    let unknown = cloud_config(&missing).replace("127.0.0.1", "no-such-host.invalid");
    let region = cloud_config(&missing).replace("tenant-id", "region = R9\ntenant-id");
    let other = Authority::new("other").issue(&params());
    let trusting = cloud_config(&secure).replace("tenant-id", "ca-file = ca.pem\ntenant-id");
    for (name, config, server) in [
        ("check-no-such-secret", cloud_config(&missing), &missing),
        ("check-not-a-key", cloud_config(&short), &short),
        ("check-no-such-region", region, &missing),
        ("check-no-such-host", unknown, &missing),
        ("check-other-authority", trusting, &secure),
    ] {
        let place = Place::new(&config);
        std::fs::write(place.path("ca.pem"), &other.chain_pem).expect("written");
        assert_check(name, &place, &server.base()).await;
    }
}

/// A cloud in which this answers every request of this kind: `POST` for logins, or the
/// end of a path.
async fn answering(kind: &'static str, reply: Reply) -> Server {
    let answers = move |request: &Received| {
        let asked = request.method == kind || request.target.ends_with(kind);
        asked.then(|| reply.clone())
    };
    Recorder::default().start_with(None, answers).await
}

fn page(status: u16, text: &str) -> Reply {
    let html = format!("<html><head><title>{text}</title></head><body></body></html>");
    Reply::status(status)
        .header("Content-Type", "text/html")
        .body(html)
}

fn json_of(status: u16, text: &str) -> Reply {
    Reply::status(status)
        .header("Content-Type", "application/json")
        .body(text.to_owned())
}

fn of_keystone(message: &str) -> Reply {
    let body =
        format!(r#"{{"error": {{"code": 401, "message": "{message}", "title": "Unauthorized"}}}}"#);
    json_of(401, &body)
}

#[tokio::test]
async fn check_of_what_stands_in_front_of_a_cloud() {
    let payload = "/payload";
    let moved = "https://barbican.example.com/v1/secrets/x/payload";
    let keystone = "https://keystone.example.com/v3/auth/tokens";
    let unrouted = r#"{"code": 406, "title": "Not Acceptable", "description": null}"#;
    let failure = r#"{"code": 500, "title": "Internal Server Error", "description": "Secret payload retrieval failure seen - please contact site administrator."}"#;
    for (name, kind, reply) in [
        (
            "check-ingress-without-barbican",
            payload,
            Reply::status(404).body("default backend - 404"),
        ),
        (
            "check-page-401",
            payload,
            page(401, "Authorization Required"),
        ),
        ("check-page-403", payload, page(403, "Forbidden")),
        ("check-wrong-path", payload, json_of(406, unrouted)),
        (
            "check-redirect",
            payload,
            Reply::status(302).header("Location", moved),
        ),
        ("check-barbican-fails", payload, json_of(500, failure)),
        ("check-login-page", "POST", page(200, "Welcome")),
        ("check-login-page-404", "POST", page(404, "Not Found")),
        (
            "check-login-moved",
            "POST",
            Reply::status(302).header("Location", keystone),
        ),
        (
            "check-login-locked",
            "POST",
            of_keystone("The account is locked for user: u."),
        ),
        (
            "check-login-expired",
            "POST",
            of_keystone("The password is expired and needs to be changed for user: u."),
        ),
    ] {
        let server = answering(kind, reply).await;
        let place = Place::new(&cloud_config(&server));
        assert_check(name, &place, &server.base()).await;
    }
}

#[tokio::test]
async fn check_of_an_order_of_a_password_and_of_a_setting_for_barbican() {
    let order = Recorder {
        pay: vec![404],
        ..Recorder::default()
    };
    let order = order.start_with(None, |request| {
        let asked = request.target.contains("/orders/");
        let body = format!(
            r#"{{"order_ref": "http://b/v1/orders/{KEY_ID}", "status": "ACTIVE",
               "secret_ref": "http://b/v1/secrets/{OTHER_KEY}"}}"#
        );
        asked.then(|| json_of(200, &body))
    });
    let order = order.await;
    let password = Recorder::default().start_with(None, |request| {
        if request.target.ends_with("/payload") {
            return Some(Reply::status(200).body("correct-horse-battery-staple-42!"));
        }
        let asked = request.target.contains("/secrets/");
        let body = r#"{"name": "kms", "status": "ACTIVE", "secret_type": "passphrase"}"#;
        asked.then(|| json_of(200, body))
    });
    let password = password.await;
    let own = Recorder {
        sfx: "/elsewhere".to_owned(),
        ..Recorder::default()
    };
    let own = own.start().await;
    let setting = format!("key-manager-endpoint = {}/km\n", own.base());
    for (name, config, server) in [
        ("check-order-id", cloud_config(&order), &order),
        ("check-password-as-key", cloud_config(&password), &password),
        ("check-own-endpoint", cloud_config(&own) + &setting, &own),
    ] {
        assert_check(name, &Place::new(&config), &server.base()).await;
    }
}

#[tokio::test]
async fn check_and_status_as_json() {
    let server = Recorder::default().start().await;
    let place = Place::new(&cloud_config(&server));
    let directory = place.path("").display().to_string();
    let base = server.base();
    let address = base.trim_start_matches("http://");
    let changing = [(directory.as_str(), "DIRECTORY/"), (address, "SERVER")];
    let mut said = place.check(&["--json"]).await;
    let mut document: serde_json::Value = serde_json::from_str(&said.output).expect("JSON");
    let steps = document["steps"].as_array_mut().expect("steps");
    steps.retain(|step| step["name"] != "key memory");
    said.output = format!("{document:#}\n");
    assert_output("check-json", &said, &changing);

    let mut sidecar = place.start();
    sidecar.ready().await;
    let said = memory_of_any_machine(status(&place, &["--json"]).await);
    assert_output("status-json", &said, &changing);
}

fn memory_of_any_machine(mut said: CommandOutput) -> CommandOutput {
    said.output = said
        .output
        .replace("memfd_secret", "MEMORY")
        .replace("mlock", "MEMORY");
    said
}

#[tokio::test]
async fn check_on_a_terminal() {
    let denying = Recorder {
        pay: vec![403],
        ..Recorder::default()
    };
    let server = denying.start().await;
    let place = Place::new(&cloud_config(&server));
    let directory = place.path("").display().to_string();
    let base = server.base();
    let address = base.trim_start_matches("http://");
    let changing = [(directory.as_str(), "DIRECTORY/"), (address, "SERVER")];
    let files = Files {
        cloud_config: Some(place.config().to_owned()),
        ..Files::default()
    };
    let mut shown = String::new();
    let mut say = |step: &Step| {
        if step.name == "key memory" {
            return;
        }
        // Before the text is broken into lines, so that they end where they always do.
        let step = Step {
            name: step.name.clone(),
            outcome: step.outcome,
            found: steady(&step.found, &changing),
            warnings: step.warnings.clone(),
            fix: step.fix.clone(),
            took: Duration::from_millis(12),
        };
        shown += &(step.shown(Terminal::Colour) + "\n");
    };
    check::check(&files, &mut say).await;
    assert_on_terminal("check", &shown, &[]);
}

#[tokio::test]
async fn serve_that_does_not_start() {
    let place = Place::new("[Global]\n");
    let directory = place.path("").display().to_string();
    let changing = [(directory.as_str(), "DIRECTORY/")];
    let text = ["--log-format", "text"];
    let said = place.start_with(&text).ended().await;
    assert_output("serve-wrong-file", &said, &changing);

    let _taken = std::os::unix::net::UnixListener::bind(place.socket()).expect("a socket");
    let said = place.start_with(&text).ended().await;
    assert_output("serve-taken-socket", &said, &changing);
}

async fn status(place: &Place, more: &[&str]) -> CommandOutput {
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
    sidecar.unavailable(&client, "is unavailable").await;
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
    let suffixed = format!("{KEY_ID}_002");
    let again = run(rotate(&["--new-key-id", &suffixed])).await;
    assert_output("rotate-to-suffix", &again, &[]);
    let same = run(rotate(&["--new-key-id", KEY_ID])).await;
    assert_output("rotate-to-the-same", &same, &[]);

    let credential = "application-credential-id = c\napplication-credential-secret = s\n";
    let by_credential = config.replace("user-id = u\npassword = p\ntenant-id = T\n", credential);
    place.write("cloud.conf", &by_credential);
    assert_output("rotate-credential", &run(rotate(&[])).await, &[]);
    let known = run(rotate(&["--new-key-id", &other])).await;
    assert_output("rotate-credential-to", &known, &[]);
}

#[tokio::test]
async fn rotate_check_and_status_where_a_container_lists_the_keys() {
    let reference = |name: &str, id: &str| (name.to_owned(), format!("http://b/v1/secrets/{id}"));
    let references = [
        reference("2026-01-01T00:00:00Z", KEY_ID),
        reference("2099-01-01T00:00:00Z", OTHER_KEY),
        reference("2026-12-01", OTHER_KEY),
    ];
    let server = with_container(container(&references)).await;
    let place = Place::new(&container_config(&server));
    let base = server.base();
    let address = base.trim_start_matches("http://");
    let directory = place.path("").display().to_string();
    let changing = [(directory.as_str(), "DIRECTORY/"), (address, "SERVER")];
    let rotate = |more: &[&str]| {
        let mut command = place.command("rotate");
        command
            .args(["--cloud-config", "config/cloud.conf"])
            .args(more);
        command
    };
    assert_output("rotate-container", &run(rotate(&[])).await, &[]);
    let known = run(rotate(&["--new-key-id", OTHER_KEY])).await;
    assert_output("rotate-container-to", &known, &[]);
    let mut said = place.check(&[]).await;
    said.output = without_memory(&said.output);
    assert_output("check-container", &said, &changing);

    let mut sidecar = place.start();
    sidecar.ready().await;
    let both = async |_: &Sidecar| {
        let said = status(&place, &[]).await;
        (!said.output.contains("MISSING")).then_some(said)
    };
    let mut said = sidecar.until("both keys are held", both).await;
    said.output = said
        .output
        .replace("memfd_secret", "MEMORY")
        .replace("mlock", "MEMORY");
    let age = |line: &str| match line.split_once("the write key is ") {
        Some((before, _)) => format!("{before}the write key is N days old\n"),
        None => format!("{line}\n"),
    };
    said.output = said.output.lines().map(age).collect();
    assert_output("status-container", &said, &[]);
}

#[test]
fn nothing_printed_away_from_a_terminal_has_colours() {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/output");
    for entry in directory.read_dir().expect("snapshots") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = read_text(&path);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn no_recorded_output_is_debug_output() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/output");
    let mut seen = 0;
    for directory in [directory.join("terminal"), directory] {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "txt") {
                continue;
            }
            let text = read_text(&path);
            for debug in [
                "Some(",
                "Ok(",
                "Err(",
                "Error(",
                "Name(",
                "InvalidCertificate",
                "AlertReceived",
                "UnknownIssuer",
                "TLSv1_",
                "TLS13_",
                "Os {",
                "kind: ",
            ] {
                assert!(!text.contains(debug), "{debug} in {}", path.display());
            }
            // Names of structs and variants before their fields.
            for line in text.lines() {
                let debug = line.split(" { ").next().unwrap_or_default();
                let word = debug.rsplit(' ').next().unwrap_or_default();
                let named = word.starts_with(|one: char| one.is_ascii_uppercase());
                assert!(debug == line || !named, "{line} in {}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 20);
}
