//! The socket's file, and the life of the process around it.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use tonic::Code;

use crate::support::client::{Client, SEED};
use crate::support::cloud::{cloud_config, payloads};
use crate::support::openstack::{self, OpenStack};
use crate::support::patience::{at_once, until};
use crate::support::server::Reply;
use crate::support::sidecar::{BINARY, CommandOutput, Place, Sidecar, run};

/// A cloud where nobody answers: enough for everything that concerns the socket.
const NOWHERE: &str = "\
[Global]
auth-url = \"http://127.0.0.1:9/v3\"
application-credential-id = id
application-credential-secret = secret

[KeyManager]
key-id = b5309dfb-b326-4148-b0ad-e9cd1ec223a8
";

fn place() -> Place {
    Place::new(NOWHERE)
}

/// The start must fail, with this in the one event of the log, and leave no trace.
async fn refused(place: &Place, text: &str) {
    let said = place.start().ended().await;
    assert_refused(&said, text);
    let left: Vec<_> = place.path(".").read_dir().expect("there").collect();
    let is_new = |name: &str| Path::new(name).extension().is_some_and(|end| end == "new");
    for entry in left.into_iter().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!is_new(&name), "{name} is left");
    }
}

fn assert_refused(said: &CommandOutput, text: &str) {
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.errors.contains(text), "{said:?}");
    assert!(said.errors.contains("\"ERROR\""), "{said:?}");
    assert_eq!(said.output, "");
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().expect("a file").ino()
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata()
        .expect("a file")
        .permissions()
        .mode()
        & 0o777
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let place = place();
    drop(UnixListener::bind(place.socket()).expect("a socket"));
    assert!(is_socket(&place.socket()));
    place.start().client().await;
}

#[tokio::test]
async fn a_living_socket_is_left_alone() {
    let place = place();
    let listener = UnixListener::bind(place.socket()).expect("a socket");
    let before = inode(&place.socket());
    refused(&place, "another process listens here").await;
    assert_eq!(inode(&place.socket()), before);
    listener.set_nonblocking(true).expect("set");
    listener.accept().expect("it was asked whether it lives");
}

#[tokio::test]
async fn a_living_sidecar_is_left_alone() {
    let place = place();
    let mut first = place.start();
    let client = first.client().await;
    refused(&place, "another process listens here").await;
    let status = client.status().await.expect_err("no key");
    assert_eq!(status.code(), Code::Unavailable);
    Client::open(first.socket()).await.expect("still listening");
}

#[tokio::test]
async fn a_living_socket_with_a_full_backlog_is_left_alone() {
    let place = place();
    let mut first = place.start();
    first.client().await;
    first.signal(Signal::STOP);
    let mut waiting = Vec::new();
    loop {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.expect("a socket");
        let address = rustix::net::SocketAddrUnix::new(place.socket()).expect("a path");
        if rustix::net::connect(&socket, &address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    refused(&place, "another process listens here").await;
    first.signal(Signal::CONT);
}

#[tokio::test]
async fn a_symbolic_link_is_refused_even_to_a_stale_socket() {
    let place = place();
    let target = place.path("elsewhere.sock");
    drop(UnixListener::bind(&target).expect("a socket"));
    symlink(&target, place.socket()).expect("a link");
    refused(&place, "this is a symbolic link, not a socket").await;
    assert_eq!(place.socket().read_link().expect("a link"), target);
}

#[tokio::test]
async fn a_directory_is_refused() {
    let place = place();
    std::fs::create_dir(place.socket()).expect("a directory");
    refused(&place, "this is a directory, not a socket").await;
    assert!(place.socket().is_dir());
}

#[tokio::test]
async fn a_regular_file_is_refused_and_keeps_its_content() {
    let place = place();
    std::fs::write(place.socket(), "precious").expect("a file");
    refused(&place, "this is a regular file, not a socket").await;
    assert_eq!(crate::support::read_text(&place.socket()), "precious");
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let place = place();
    let said = run_serve(&place, &place.path("no/such/kms.sock"), &[]).await;
    assert_refused(&said, "/no/such: cannot be used for the socket");
    assert!(
        said.errors.contains("mount or create the directory"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_with_the_limit() {
    let place = place();
    let said = run_serve(&place, &place.path(&"s".repeat(110)), &[]).await;
    assert_refused(&said, "the path of a socket is limited to 107 bytes");
}

#[tokio::test]
async fn a_path_without_a_file_name_is_refused() {
    let place = place();
    for path in ["/", "..", "/tmp/.."] {
        let said = run_serve(&place, Path::new(path), &[]).await;
        assert_refused(&said, "this is not a file name");
    }
}

#[tokio::test]
async fn a_file_name_alone_is_a_path() {
    let place = place();
    let mut command = place.command("serve");
    command.args(["--socketpath", "kms.sock", "--cloud-config"]);
    command.arg(place.config());
    place.spawn(command).client().await;
}

async fn run_serve(place: &Place, socket: &Path, more: &[&str]) -> CommandOutput {
    let mut command = place.command("serve");
    command.arg("--socketpath").arg(socket);
    command.arg("--cloud-config").arg(place.config()).args(more);
    run(command).await
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone() {
    let place = place();
    let mut sidecar = place.start();
    sidecar.client().await;
    assert_eq!(mode(&place.socket()), 0o600);
}

#[tokio::test]
async fn mode_and_group_are_as_the_flags_say() {
    let place = place();
    let own = place.socket().parent().expect("a directory").metadata();
    let (own, root) = (
        own.expect("there").gid(),
        rustix::process::getuid().is_root(),
    );
    // Only root may give a file to a group that it is not in.
    let group = if root { 4242 } else { own };
    let mut sidecar = place.start_with(&[
        "--socket-mode",
        "0660",
        "--socket-group",
        &group.to_string(),
    ]);
    sidecar.client().await;
    assert_eq!(mode(&place.socket()), 0o660);
    assert_eq!(place.socket().metadata().expect("there").gid(), group);
}

#[tokio::test]
async fn of_two_starts_at_once_one_wins_and_serves() {
    at_once((0..4).map(|_| async {
        let place = place();
        let mut all: Vec<Sidecar> = (0..3).map(|_| place.start()).collect();
        let client = all[0].socket().to_owned();
        let mut lost = 0;
        until("all but one have given up", async || {
            lost = all.iter_mut().filter_map(Sidecar::has_ended).count();
            (lost == 2).then_some(())
        })
        .await;
        let client = Client::open(&client).await.expect("one listens");
        assert!(client.status().await.is_err(), "without a key");
        for sidecar in &mut all {
            if let Some(said) = sidecar.has_ended() {
                assert_refused(&said, "another process listens here");
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn after_kill_9_the_next_start_serves_at_the_same_path() {
    let cloud = openstack::plain();
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut first = place.start();
    let wrapped = first.ready().await.round_trip().await;
    assert_eq!(first.kill().await.code, 128 + 9);
    assert!(is_socket(&place.socket()), "nobody could remove it");
    let mut second = place.start();
    let client = second.ready().await;
    assert_eq!(client.decrypt(&wrapped).await.expect("as before"), SEED);
}

#[tokio::test]
async fn sigterm_and_sigint_remove_the_socket_and_end_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = place();
        let mut sidecar = place.start();
        // An idle connection does not hold it up.
        let _client = sidecar.client().await;
        sidecar.signal(signal);
        let said = sidecar.ended().await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.errors.contains("\"stopped\""), "{said:?}");
        assert!(!place.socket().exists());
    }
}

#[tokio::test]
async fn sigterm_leaves_a_socket_that_somebody_else_has_put_there() {
    let place = place();
    let mut sidecar = place.start();
    sidecar.client().await;
    std::fs::remove_file(place.socket()).expect("removed");
    let _other = UnixListener::bind(place.socket()).expect("a socket");
    let before = inode(&place.socket());
    assert_eq!(sidecar.stop().await.code, 0);
    assert_eq!(inode(&place.socket()), before);
}

#[tokio::test]
async fn sigterm_lets_calls_in_flight_finish() {
    let cloud = openstack::breakable().await;
    cloud.ctl(&["freeze", "keystone"]).await;
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start_with(&["--log-level", "debug"]);
    let client = sidecar.client().await;
    sidecar.unavailable(&client, "it is being loaded").await;
    // The call waits for the key, which does not come; it still gets its answer.
    let call = client.encrypt(SEED);
    let stop = async {
        sidecar_has_read_what_was_sent(&client).await;
        sidecar.stop().await
    };
    let (answer, said) = tokio::join!(call, stop);
    let status = answer.expect_err("no key");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("it is being loaded"), "{status}");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.errors.contains("cut off"), "{said:?}");
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn while_it_drains_a_new_client_is_refused_at_once() {
    let server = payloads(|_| Reply::Stall(Vec::new())).await;
    let place = Place::new(&cloud_config(&server));
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    let mut call = pin!(client.encrypt(SEED));
    let stop = async {
        sidecar_has_read_what_was_sent(&client).await;
        sidecar.signal(Signal::TERM);
        sidecar
            .until("the socket is removed", async |sidecar| {
                let refused = std::os::unix::net::UnixStream::connect(sidecar.socket()).err()?;
                // Closed first, so that a disk that hangs does not keep it open; then removed.
                match refused.kind() {
                    std::io::ErrorKind::NotFound => Some(()),
                    kind => {
                        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
                        None
                    }
                }
            })
            .await;
    };
    tokio::select! {
        biased;
        answer = &mut call => panic!("refused only after the last answer: {answer:?}"),
        () = stop => {}
    }
    let status = call.await.expect_err("no key");
    assert!(status.message().contains("it is being loaded"), "{status}");
    assert_eq!(sidecar.ended().await.code, 0);
}

/// A Status of the same connection is answered: what was sent before it has been read.
async fn sidecar_has_read_what_was_sent(client: &Client) {
    client.status().await.expect_err("no key");
}

#[tokio::test]
async fn sigterm_lets_a_call_have_the_key_that_it_waits_for() {
    let cloud = openstack::breakable().await;
    for _ in 0..5 {
        if served_while_draining(&cloud).await {
            return;
        }
    }
    panic!("this machine is too busy to load a key within a call, five times in a row");
}

async fn served_while_draining(cloud: &OpenStack) -> bool {
    cloud.ctl(&["freeze", "keystone"]).await;
    let place = Place::new(&cloud.config("application_credential_narrow"));
    let mut sidecar = place.start();
    let client = sidecar.client().await;
    let stop = async {
        sidecar_has_read_what_was_sent(&client).await;
        sidecar.signal(Signal::TERM);
        cloud.ctl(&["thaw", "keystone"]).await;
        sidecar.ended().await
    };
    let (answer, said) = tokio::join!(client.encrypt(SEED), stop);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.errors.contains("cut off"), "{said:?}");
    match answer {
        Ok(wrapped) => {
            assert_eq!(wrapped.key_id, cloud.key(0));
            true
        }
        // It has waited as long as a call may.
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            false
        }
    }
}

#[tokio::test]
async fn sigterm_ends_in_time_beside_clients_that_say_nothing() {
    let place = place();
    let mut sidecar = place.start();
    sidecar.client().await;
    let silent: Vec<_> = (0..10)
        .map(|_| std::os::unix::net::UnixStream::connect(place.socket()).expect("connected"))
        .collect();
    let begin = std::time::Instant::now();
    let said = sidecar.stop().await;
    assert_eq!(said.code, 0, "{said:?}");
    // Well below the time that calls in flight get; there are none.
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    assert!(!said.errors.contains("cut off"), "{said:?}");
    drop(silent);
}

#[tokio::test]
async fn as_process_1_it_obeys_sigterm_and_removes_the_socket() {
    let unshare = |command: &mut Command| {
        let allowed = command.output();
        allowed.is_ok_and(|made| made.status.success())
    };
    // Root may; others only with user namespaces.
    let flags: &[&str] = if unshare(Command::new("unshare").args(["-pf", "true"])) {
        &["-pf", "--kill-child"]
    } else if unshare(Command::new("unshare").args(["-Urpf", "true"])) {
        &["-Urpf", "--kill-child"]
    } else {
        panic!("this system permits no process namespaces: run the tests as root");
    };
    let place = place();
    let mut command = Command::new("unshare");
    command.args(flags).arg(BINARY).arg("serve");
    command.arg("--socketpath").arg(place.socket());
    command.arg("--cloud-config").arg(place.config());
    let mut unshare = place.spawn(command);
    unshare.client().await;
    let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
    let child = crate::support::read_text(Path::new(&children));
    let child = child.trim().parse().expect("one child");
    let status = crate::support::read_text(Path::new(&format!("/proc/{child}/status")));
    let inside = status.lines().find(|line| line.starts_with("NSpid:"));
    assert!(
        inside.is_some_and(|line| line.ends_with("\t1")),
        "{inside:?}"
    );
    let child = rustix::process::Pid::from_raw(child).expect("a process");
    rustix::process::kill_process(child, Signal::TERM).expect("its parent's parent");
    let said = unshare.ended().await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn core_dumps_are_off_and_other_processes_kept_out() {
    let place = place();
    let mut sidecar = place.start();
    sidecar.client().await;
    let limits = format!("/proc/{}/limits", sidecar.pid());
    let limits = crate::support::read_text(Path::new(&limits));
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let fields: Vec<_> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(&fields[4..6], ["0", "0"]);
    // The kernel gives the files of a process that is not dumpable to root.
    let owner = File::open(format!("/proc/{}/limits", sidecar.pid()))
        .and_then(|file| file.metadata())
        .expect("a file");
    assert_eq!(owner.uid(), 0);
}

/// The least descriptor number that the process does not have.
fn lowest_free_descriptor(sidecar: &Sidecar) -> u64 {
    let path = format!("/proc/{}/fd", sidecar.pid().as_raw_nonzero());
    let taken: Vec<u64> = Path::new(&path)
        .read_dir()
        .expect("our child")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let mut numbers = 0..=u64::try_from(taken.len()).expect("a few");
    numbers.find(|number| !taken.contains(number)).expect("one")
}

fn limit_descriptors(sidecar: &Sidecar, limit: u64) -> Rlimit {
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(4096),
    };
    prlimit(Some(sidecar.pid()), Resource::Nofile, limit).expect("allowed")
}

#[tokio::test]
async fn a_want_of_descriptors_is_said_once_and_so_is_its_end() {
    let place = place();
    let mut sidecar = place.start();
    let first = sidecar.client().await;
    let error = first.status().await.expect_err("no key");
    assert_eq!(error.code(), Code::Unavailable);
    limit_descriptors(&sidecar, lowest_free_descriptor(&sidecar));
    // It is connected by the kernel; nobody accepts it, ten times a second.
    let second = std::os::unix::net::UnixStream::connect(place.socket());
    let _second = second.expect("it listens");
    let event = sidecar.logged("cannot accept a connection").await;
    assert_eq!(event["level"], "WARN", "{event}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = |sidecar: &Sidecar| sidecar.errors().matches("cannot accept").count();
    assert_eq!(said(&sidecar), 1, "{}", sidecar.errors());
    first.status().await.expect_err("answered all the same");

    limit_descriptors(&sidecar, 1024);
    sidecar
        .until("the end is said", async |sidecar| {
            let _ = Client::open(&place.socket()).await;
            let event = |line: &&str| line.contains("connections are accepted again");
            sidecar.errors().lines().find(event).map(str::to_owned)
        })
        .await;
    assert_eq!(said(&sidecar), 1, "{}", sidecar.errors());
}

#[tokio::test]
async fn a_socket_that_is_deleted_while_serving_is_made_again() {
    let place = place();
    let mut sidecar = place.start_with(&["--socket-mode", "0660"]);
    let before = sidecar.client().await;
    std::fs::remove_file(place.socket()).expect("removed");
    let said = sidecar.logged("the socket's file was deleted").await;
    assert_eq!(said["level"], "WARN", "{said}");
    assert_eq!(mode(&place.socket()), 0o660);
    let again = sidecar.client().await;
    assert!(again.status().await.is_err(), "no key, but an answer");
    assert!(before.status().await.is_err(), "who is connected stays so");
    assert_eq!(sidecar.stop().await.code, 0);
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn a_socket_whose_directory_is_deleted_is_made_again_in_the_next_one() {
    let place = place();
    let directory = place.path("run");
    std::fs::create_dir(&directory).expect("a directory");
    let socket = directory.join("kms.sock");
    let mut command = place.command("serve");
    command.arg("--socketpath").arg(&socket);
    command.arg("--cloud-config").arg(place.config());
    let mut sidecar = place.spawn(command);
    sidecar
        .until("it listens", async |_| Client::open(&socket).await.ok())
        .await;
    std::fs::remove_dir_all(&directory).expect("removed");
    sidecar
        .logged("the socket's file was deleted and cannot be created again")
        .await;
    std::fs::create_dir(&directory).expect("a directory");
    sidecar.logged("it has been created again").await;
    Client::open(&socket).await.expect("it listens");
}

#[tokio::test]
async fn the_socket_of_somebody_else_is_left_alone_while_serving() {
    let place = place();
    let mut sidecar = place.start();
    sidecar.client().await;
    let hidden = place.path("other.sock");
    let _other = UnixListener::bind(&hidden).expect("a socket");
    std::fs::rename(&hidden, place.socket()).expect("renamed");
    let before = inode(&place.socket());
    assert_eq!(sidecar.stop().await.code, 0);
    assert_eq!(inode(&place.socket()), before);
}

#[tokio::test]
async fn a_url_is_a_path_and_a_name_without_a_file_is_refused() {
    let place = place();
    let url = format!("unix://{}", place.socket().display());
    let mut command = place.command("serve");
    command.args(["--socketpath", &url, "--log_flush_frequency=5s"]);
    command.arg("--cloud_config").arg(place.config());
    let mut sidecar = place.spawn(command);
    sidecar.client().await;
    assert!(is_socket(&place.socket()));
    for (path, expected) in [
        ("@kms", "begins with `@` is an abstract socket"),
        ("unix://run/kms.sock", "has three slashes"),
    ] {
        let said = run_serve(&place, Path::new(path), &[]).await;
        assert_eq!(said.code, 64, "{said:?}");
        assert!(said.errors.contains(expected), "{said:?}");
    }
}
