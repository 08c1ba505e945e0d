//! Everything that can change, changes while the process serves.

mod lifetime;
mod memory;
mod named_files;
mod refusals;
mod reload;
mod rotation;
mod schedule;
mod watch;
mod watch_limits;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use barbican_kms::cli::status::status;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::openstack::OpenStack;
use crate::support::sidecar::{BINARY, Place, Sidecar};

/// Far more than a notified change takes, and far less than the slow check.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Its `decrypt-key-ids` and what follows.
fn tail(decrypt: &[&str], more: &str) -> String {
    let list = match decrypt {
        [] => String::new(),
        ids => format!("decrypt-key-ids = {}\n", ids.join(",")),
    };
    format!("\n{list}{more}")
}

/// A cloud-config with this ring.
fn ring(openstack: &OpenStack, write: &str, decrypt: &[&str]) -> String {
    ring_of("password", openstack, write, decrypt)
}

/// The same with another way to log in.
fn ring_of(login: &str, openstack: &OpenStack, write: &str, decrypt: &[&str]) -> String {
    openstack.config_for(login, write) + &tail(decrypt, "")
}

/// What `status` shows.
async fn state(socket: &Path) -> Value {
    let state = status(socket, Duration::from_secs(10)).await;
    state.expect("status is answered").to_json()
}

/// The newest reload: how it ended, and what is said about it.
async fn last_reload(socket: &Path) -> Option<(String, String)> {
    let state = state(socket).await;
    let last = state.pointer("/configuration/last_reload")?.as_object()?;
    let text = |field: &str| last.get(field).and_then(Value::as_str).unwrap_or_default();
    Some((text("outcome").to_owned(), text("message").to_owned()))
}

/// How many reloads have ended this way.
async fn reloads(socket: &Path, outcome: &str) -> u64 {
    let state = state(socket).await;
    let count = state.pointer(&format!("/configuration/reloads/{outcome}"));
    count.and_then(Value::as_u64).expect("a count")
}

/// Writes a file anew under its name, as editors and configuration management do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    write(&new, text);
    std::fs::rename(&new, path).expect("renamed");
}

fn write(path: &Path, text: &str) {
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.write_all(text.as_bytes()).expect("written");
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status();
    assert!(
        status.expect("it runs").success(),
        "{program} {arguments:?}"
    );
}

/// How the sidecar sees the directory that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// As it is.
    Host,
    /// Through a bind mount in a mount namespace of its own, as the static pod does.
    Mounted,
    /// Only the cloud-config is mounted, as with `subPath`: the documented mistake.
    SingleFile,
}

/// A sidecar, and the directory with its cloud-config, of which each change swaps the
/// write key with the other key of its ring.
struct Scene {
    openstack: &'static OpenStack,
    host: PathBuf,
    client: Client,
    sidecar: Sidecar,
    /// Dropped after the sidecar, whose log is in it.
    place: Place,
    swapped: bool,
    login: &'static str,
}

impl Scene {
    async fn start(openstack: &'static OpenStack, view: View, arguments: &[&str]) -> Self {
        let place = Place::new("");
        let host = place.path("host");
        let seen = place.path("seen");
        std::fs::create_dir(&host).expect("made");
        std::fs::create_dir(&seen).expect("made");
        let keys = [openstack.key(0), openstack.key(1)];
        write(
            &host.join("cloud.conf"),
            &ring(openstack, keys[0], &keys[1..]),
        );
        write(&seen.join("cloud.conf"), "");
        let (from, to) = match view {
            View::Host => (None, &host),
            View::Mounted => (Some((host.clone(), seen.clone())), &seen),
            View::SingleFile => {
                let pair = (host.join("cloud.conf"), seen.join("cloud.conf"));
                (Some(pair), &seen)
            }
        };
        let mut command = match from {
            None => Command::new(BINARY),
            Some((from, to)) => {
                let mut command = Command::new("unshare");
                let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    script,
                    "sh",
                ]);
                command.arg(from).arg(to).arg(BINARY);
                command
            }
        };
        command
            .arg("serve")
            .arg("--socketpath")
            .arg(place.socket())
            .arg("--cloud-config")
            .arg(to.join("cloud.conf"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let mut sidecar = place.spawn(command);
        let client = sidecar.ready().await;
        let ready = async |_: &Sidecar| all_held(&state(&place.socket()).await).then_some(());
        sidecar.until("every key is held", ready).await;
        Self {
            openstack,
            place,
            host,
            sidecar,
            client,
            swapped: false,
            login: "password",
        }
    }

    fn file(&self) -> PathBuf {
        self.host.join("cloud.conf")
    }

    /// The next text of the cloud-config.
    fn next(&mut self) -> String {
        self.swapped = !self.swapped;
        let (write, decrypt) = self.keys();
        ring_of(self.login, self.openstack, write, &[decrypt])
    }

    /// From the next text on, it logs in in another way.
    fn swap_credentials(&mut self) {
        self.login = match self.login {
            "password" => "application_credential",
            _ => "password",
        };
    }

    fn keys(&self) -> (&'static str, &'static str) {
        let (first, second) = (self.openstack.key(0), self.openstack.key(1));
        if self.swapped {
            (second, first)
        } else {
            (first, second)
        }
    }

    /// Waits until the newest text is in force.
    async fn applied(&mut self, what: &str) {
        let began = Instant::now();
        let (write, _) = self.keys();
        let client = &self.client;
        self.sidecar
            .until(what, async |_| {
                let status = client.status().await.expect("always ready");
                (status.key_id == write).then_some(())
            })
            .await;
        let took = began.elapsed();
        println!("{what}: {took:?}");
        assert!(took < AT_ONCE, "{what} took {took:?}");
    }

    /// Changes the cloud-config in one way and waits until that is in force.
    async fn change(&mut self, what: &str, act: impl FnOnce(&Path, &str)) {
        let text = self.next();
        act(&self.file(), &text);
        self.applied(what).await;
    }

    /// Waits until the watcher has done with the readings at start, which see a change
    /// without saying that nothing has notified it: a SIGHUP is answered after them.
    async fn settled(&mut self) {
        let unchanged = "nothing to reload";
        let before = self.count_of(unchanged);
        self.sidecar.signal(Signal::HUP);
        self.sidecar.logged_times(unchanged, before + 1).await;
    }

    /// Waits for the next log event with this text.
    async fn logs(&mut self, text: &str, act: impl FnOnce()) {
        let before = self.count_of(text);
        act();
        self.sidecar.logged_times(text, before + 1).await;
    }

    fn count_of(&self, text: &str) -> usize {
        self.sidecar.errors().matches(text).count()
    }

    fn assert_never_logged(&self, text: &str) {
        let log = self.sidecar.errors();
        assert!(!log.contains(text), "{text}:\n{log}");
    }
}

fn all_held(state: &Value) -> bool {
    let keys = state.get("keys").and_then(Value::as_array).expect("keys");
    keys.iter()
        .all(|key| key.get("held") == Some(&Value::Bool(true)))
}
