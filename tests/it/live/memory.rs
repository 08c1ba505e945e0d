//! No copy of a key where root, swap or a core dump could find it.
//!
//! The process's memory is read as root reads it, and searched for the key and for
//! everything that AES makes of it, one round key at a time.

use std::process::Command;
use std::time::Duration;

use super::schedule::traces;
use super::{AT_ONCE, all_held, replace, ring, state, tail};
use crate::support::client::Client;
use crate::support::cloud::{Recorder, cloud_config};
use crate::support::hex;
use crate::support::openstack::{self, OpenStack};
use crate::support::patience::within;
use crate::support::scan::{Finding, Needle, scan};
use crate::support::scrape::Target;
use crate::support::sidecar::{BINARY, Place, Sidecar};

/// Whether the kernel is asked for `memfd_secret`, or made to have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    SecretMemory,
    Locked,
    Unlocked,
    /// The kernel gives 96 KiB, of either kind.
    Few {
        secret: bool,
    },
}

/// Runs a program with as much lockable memory as the first argument says, if it says
/// anything, and where the second says so, without `memfd_secret`: ENOSYS, as on an older
/// kernel.
const LIMITED: &str = r"
import ctypes, os, resource, struct, sys
rules = b''.join(struct.pack('HBBI', *rule) for rule in [
    (0x20, 0, 0, 0),            # load the number of the system call
    (0x15, 0, 1, 447),          # memfd_secret?
    (0x06, 0, 0, 0x00050000 | 38),  # ENOSYS
    (0x06, 0, 0, 0x7fff0000),   # allow
])
buffer = ctypes.create_string_buffer(rules, len(rules))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(len(rules) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
limit, secret, *command = sys.argv[1:]
if secret == 'no' and (libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0)):
    sys.exit('no seccomp: ' + os.strerror(ctypes.get_errno()))
if limit:
    CAP_IPC_LOCK = 14
    libc.prctl(24, CAP_IPC_LOCK, 0, 0, 0)  # not even as root, from exec on
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(limit), int(limit)))
os.execv(command[0], command)
";

fn limited(limit: &str, secret: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LIMITED, limit, secret, BINARY]);
    command
}

async fn start(place: &Place, mode: Mode) -> (Sidecar, Client) {
    let mut command = match mode {
        Mode::SecretMemory => Command::new(BINARY),
        Mode::Locked => limited("", "no"),
        Mode::Unlocked => limited("0", "no"),
        Mode::Few { secret } => limited("98304", if secret { "yes" } else { "no" }),
    };
    command
        .arg("serve")
        .arg("--socketpath")
        .arg(place.socket())
        .arg("--cloud-config")
        .arg(place.config())
        .args(["--metrics-address", "127.0.0.1:0"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let mut sidecar = place.spawn(command);
    let client = sidecar.ready().await;
    let held = async |_: &Sidecar| all_held(&state(&place.socket()).await).then_some(());
    sidecar.until("every key is held", held).await;
    let memory = state(&place.socket()).await;
    let memory = memory.get("key_memory").and_then(|memory| memory.as_str());
    let wanted = match mode {
        Mode::SecretMemory => "memfd_secret",
        Mode::Locked => "mlock",
        Mode::Unlocked | Mode::Few { .. } => "unlocked",
    };
    assert_eq!(memory, Some(wanted), "this kernel gives something else");
    (sidecar, client)
}

/// Waits until what is found passes `judge`: buffers of idle connections are wiped when
/// those are closed, after 3 s.
async fn comes_to(
    sidecar: &Sidecar,
    needles: &[Needle],
    what: &str,
    judge: impl Fn(&[Finding]) -> bool,
) -> Vec<Finding> {
    let mut last = Vec::new();
    let found = within(AT_ONCE, async || {
        last = scan(sidecar.pid(), needles);
        let good = judge(&last);
        if !good {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        good.then(|| last.clone())
    })
    .await;
    found.unwrap_or_else(|| panic!("{what}: {last:#?}"))
}

fn nowhere(found: &[Finding]) -> bool {
    found.is_empty()
}

fn only_in_locked_pages(found: &[Finding]) -> bool {
    found.iter().all(|finding| finding.mapping.is_locked_away())
}

async fn keys_leave_no_trace(openstack: &'static OpenStack, mode: Mode) {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root may read another's memory"
    );
    let keys = [openstack.key(0), openstack.key(1)];
    let mut needles = Vec::new();
    for key in keys {
        let bytes = hex::decode(&openstack.payload(key).await);
        needles.push(traces(key, &bytes.try_into().expect("32 bytes")));
    }
    let all: Vec<Needle> = needles.iter().flatten().cloned().collect();
    let place = Place::new(&ring(openstack, keys[0], &keys[1..]));
    let (mut sidecar, client) = start(&place, mode).await;
    let old = client.round_trip().await;
    for _ in 0..100 {
        client.round_trip().await;
    }
    match mode {
        Mode::SecretMemory => {
            comes_to(&sidecar, &all, "held", nowhere).await;
        }
        Mode::Locked | Mode::Unlocked | Mode::Few { .. } => {
            // The second key may still be on its way when the first is used.
            sidecar.logged_times("key loaded", keys.len()).await;
            let names = ["encryption round 7", "decryption round 7", "tag key"];
            let seen = |found: &[Finding], name: &str| {
                let findings = found.iter().filter(|finding| finding.name.ends_with(name));
                findings.count()
            };
            // A mapping may be made while the others are read.
            let all_seen = |found: &[Finding]| {
                only_in_locked_pages(found)
                    && names.iter().all(|name| seen(found, name) == keys.len())
            };
            let found = comes_to(&sidecar, &all, "held", all_seen).await;
            // Else nothing here would prove anything.
            for name in names {
                assert_eq!(seen(&found, name), keys.len(), "{name}: {found:#?}");
            }
        }
    }
    // In use: a register that is spilled would be on the stack now.
    for _ in 0..5 {
        client.decrypt(&old).await.expect("held");
        let found = scan(sidecar.pid(), &all);
        match mode {
            Mode::SecretMemory => assert_eq!(found, [], "in use"),
            Mode::Locked | Mode::Unlocked | Mode::Few { .. } => {
                assert!(only_in_locked_pages(&found), "in use: {found:#?}");
            }
        }
    }
    // The rotation: the second key writes, then the first one is dropped.
    replace(place.config(), &ring(openstack, keys[1], &keys[..1]));
    sidecar.logged_times("configuration reloaded", 1).await;
    client.decrypt(&old).await.expect("still of the ring");
    client.round_trip().await;
    replace(place.config(), &ring(openstack, keys[1], &[]));
    sidecar.logged_times("configuration reloaded", 2).await;
    client.decrypt(&old).await.expect_err("dropped");
    comes_to(&sidecar, &needles[0], "dropped", nowhere).await;
    if mode == Mode::Locked {
        assert_ne!(
            scan(sidecar.pid(), &needles[1]),
            [],
            "the other key is held"
        );
    }
}

#[tokio::test]
async fn root_finds_no_key_while_it_is_held_in_secret_memory() {
    keys_leave_no_trace(openstack::plain(), Mode::SecretMemory).await;
}

#[tokio::test]
async fn without_secret_memory_keys_are_in_locked_pages_alone_and_wiped_when_dropped() {
    keys_leave_no_trace(openstack::plain(), Mode::Locked).await;
}

#[tokio::test]
async fn tls_leaves_no_trace_of_keys_either() {
    keys_leave_no_trace(openstack::tls(), Mode::SecretMemory).await;
    keys_leave_no_trace(openstack::tls(), Mode::Locked).await;
}

/// The start of every Fernet token: version, and the first bytes of the time.
const TOKEN: &str = "gAAAAAB";

#[tokio::test]
async fn root_finds_no_password_credential_or_token_at_rest() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root may read another's memory"
    );
    let openstack = openstack::tls();
    let secrets = [
        ("password", "/user/password"),
        (
            "application_credential",
            "/application_credentials/full/secret",
        ),
        (
            "application_credential_narrow",
            "/application_credentials/narrow/secret",
        ),
    ];
    for (kind, secret) in secrets {
        let needles = [
            Needle::new(kind, openstack.text(secret).as_bytes()),
            Needle::new("token", TOKEN.as_bytes()),
        ];
        let place = Place::new(&openstack.config(kind));
        let (sidecar, client) = start(&place, Mode::SecretMemory).await;
        client.round_trip().await;
        comes_to(&sidecar, &needles, kind, nowhere).await;
        // Reading the files again leaves nothing behind either.
        replace(place.config(), &format!("{}\n", openstack.config(kind)));
        comes_to(&sidecar, &needles, kind, nowhere).await;
    }
}

#[tokio::test]
async fn without_any_protection_it_serves_and_warns_at_once() {
    let openstack = openstack::plain();
    let place = Place::new(&openstack.config("application_credential_narrow"));
    let (mut sidecar, client) = start(&place, Mode::Unlocked).await;
    client.round_trip().await;
    sidecar.logged("keys are held in plain memory").await;
}

#[tokio::test]
async fn of_many_keys_the_one_that_is_not_locked_is_reported() {
    for secret in [true, false] {
        let server = Recorder::default().start().await;
        let more: Vec<_> = (0..40)
            .map(|number| format!("00000000-0000-4000-8000-{number:012}"))
            .collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let place = Place::new(&(cloud_config(&server) + &tail(&more, "")));
        let (mut sidecar, client) = start(&place, Mode::Few { secret }).await;
        client.round_trip().await;

        let errors = sidecar.errors();
        assert!(
            !errors.contains("keys are held in plain memory"),
            "{errors}"
        );
        let warning = sidecar.logged("key loaded into plain memory").await;
        assert_eq!(warning["level"], "WARN");
        assert_eq!(warning["memory"], "unlocked");
        let locked = if secret { "memfd_secret" } else { "mlock" };
        let first = sidecar
            .log()
            .into_iter()
            .find(|event| event["message"] == "key loaded");
        assert_eq!(first.expect("some were locked")["memory"], locked);

        let scrape = Target::of(&mut sidecar).await.scrape().await;
        assert_eq!(scrape.count("key_memory_locked"), 0);
        assert_eq!(scrape.count("key_memory_info{protection=\"unlocked\"}"), 1);
    }
}
