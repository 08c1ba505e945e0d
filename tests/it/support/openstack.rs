//! Real Keystone and Barbican servers, by `scripts/openstack`.
//!
//! [`plain`], [`tls`] and [`mtls`] are shared by all tests at once: a test makes its own
//! users, credentials and secrets there. [`breakable`] lends one to a single test, which
//! may stop its servers. Whatever was brought up goes down when the tests have ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// One deployment.
#[derive(Debug)]
pub(crate) struct OpenStack {
    directory: PathBuf,
    state: Value,
    /// The servers' database has room for one writer; they answer a second one with 500.
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// A deployment that no other test uses now.
#[derive(Debug)]
pub(crate) struct Breakable {
    deployment: OpenStack,
    _lock: File,
}

/// The shared deployment without TLS.
pub(crate) fn plain() -> &'static OpenStack {
    static SHARED: OnceLock<OpenStack> = OnceLock::new();
    SHARED.get_or_init(|| OpenStack::up("openstack-plain", &[]))
}

/// The shared deployment with TLS and an authority of its own.
pub(crate) fn tls() -> &'static OpenStack {
    static SHARED: OnceLock<OpenStack> = OnceLock::new();
    SHARED.get_or_init(|| OpenStack::up("openstack-tls", &["--tls"]))
}

/// The shared deployment that wants to see a client certificate.
pub(crate) fn mtls() -> &'static OpenStack {
    static SHARED: OnceLock<OpenStack> = OnceLock::new();
    SHARED.get_or_init(|| OpenStack::up("openstack-mtls", &["--mtls"]))
}

/// A deployment whose servers a test may freeze, close and kill. Few tests at a time
/// get one; the others wait.
pub(crate) async fn breakable() -> Breakable {
    loop {
        for number in 1..=BREAKABLE {
            let name = format!("openstack-breakable-{number}");
            let lock = open_lock(&name, "lent");
            if lock.try_lock().is_ok() {
                return Breakable {
                    // This thaws, opens and starts whatever the last test has left.
                    deployment: OpenStack::up(&name, &[]),
                    _lock: lock,
                };
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As many as two cores can carry.
const BREAKABLE: usize = 2;

impl OpenStack {
    fn up(name: &str, flags: &[&str]) -> Self {
        let directory = base().join(name);
        take_down_at_the_end(name, &directory);
        let made = Command::new(script())
            .arg("up")
            .arg(&directory)
            .args(flags)
            .output()
            .expect("scripts/openstack can be run");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "scripts/openstack up: {said}");
        let state = serde_json::from_slice(&made.stdout).expect("JSON");
        Self {
            directory,
            state,
            one_at_a_time: tokio::sync::Mutex::default(),
        }
    }

    /// Starts what was killed, and thaws and opens what was not.
    pub(crate) async fn heal(&self) {
        self.run(&["up"], &[]).await;
    }

    /// `scripts/openstack ctl`; panics when that fails.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> Value {
        self.run(&["ctl"], arguments).await
    }

    async fn run(&self, command: &[&str], arguments: &[&str]) -> Value {
        let _turn = self.one_at_a_time.lock().await;
        let made = tokio::process::Command::new(script())
            .args(command)
            .arg(&self.directory)
            .args(arguments)
            .output()
            .await
            .expect("scripts/openstack can be run");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{command:?} {arguments:?}: {said}");
        serde_json::from_slice(&made.stdout).expect("JSON")
    }

    /// A text of the deployment's JSON, such as `/user/password`.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.state.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text {pointer}"))
    }

    /// The key's id; 0 is the one that the cloud-configs name, 1 and 2 are for rotation.
    pub(crate) fn key(&self, number: usize) -> &str {
        self.text(&format!("/secret_ids/{number}"))
    }

    /// A key's bytes, in hexadecimal.
    pub(crate) async fn payload(&self, id: &str) -> String {
        text(&self.ctl(&["secret-payload", id]).await, "hex")
    }

    /// Makes a key and returns its id.
    pub(crate) async fn new_key(&self, hex: &str) -> String {
        text(&self.ctl(&["secret-create", "--hex", hex]).await, "id")
    }

    /// Makes a container of these references, a name and a key each, and returns its id.
    pub(crate) async fn new_container(&self, references: &[(&str, &str)]) -> String {
        let references = references
            .iter()
            .map(|(name, key)| format!("--reference={name}={key}"));
        let mut words = vec!["container-create".to_owned()];
        words.extend(references);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        text(&self.ctl(&words).await, "id")
    }

    /// The text of a cloud-config whose keys a container lists.
    pub(crate) fn config_of_container(&self, kind: &str, container: &str) -> String {
        let line = |line: &str| match line.strip_prefix("key-id = ") {
            Some(_) => format!("key-container = \"{container}\"\n"),
            None => format!("{line}\n"),
        };
        self.config(kind).lines().map(line).collect()
    }

    /// The text of a ready cloud-config, such as `password`. It ends within
    /// `[KeyManager]`, so that lines can be added there.
    pub(crate) fn config(&self, kind: &str) -> String {
        super::read_text(&self.config_file(kind))
    }

    pub(crate) fn config_file(&self, kind: &str) -> PathBuf {
        self.text(&format!("/cloud_configs/{kind}")).into()
    }

    /// The text of a cloud-config that names another key.
    pub(crate) fn config_for(&self, kind: &str, key_id: &str) -> String {
        self.config(kind).replace(self.key(0), key_id)
    }

    /// A cloud-config with a password, of which only these settings vary.
    pub(crate) fn config_of_user(&self, user: &str, password: &str) -> String {
        self.config("password")
            .replace(self.text("/user/username"), user)
            .replace(self.text("/user/password"), password)
    }

    /// With a token in place of user name and password.
    pub(crate) fn config_of_token(&self, token: &str) -> String {
        let user = format!("username = \"{}\"", self.text("/user/username"));
        let password = format!("password = \"{}\"\n", self.text("/user/password"));
        let config = self.config("password").replace(&password, "");
        config.replace(&user, &format!("token = \"{token}\""))
    }

    pub(crate) fn config_of_credential(&self, id: &str, secret: &str) -> String {
        let narrow = "/application_credentials/narrow";
        self.config("application_credential_narrow")
            .replace(self.text(&format!("{narrow}/id")), id)
            .replace(self.text(&format!("{narrow}/secret")), secret)
    }
}

impl std::ops::Deref for Breakable {
    type Target = OpenStack;

    fn deref(&self) -> &OpenStack {
        &self.deployment
    }
}

/// A text field of what `ctl` printed.
pub(crate) fn text(value: &Value, field: &str) -> String {
    let text = value.get(field).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text {field} in {value}"))
        .to_owned()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/openstack")
}

/// `scripts/test` says where; plain `cargo test` uses the target directory.
fn base() -> PathBuf {
    let base = std::env::var_os("BARBICAN_KMS_TEST_DIR")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    std::fs::create_dir_all(&base).expect("the test directory can be made");
    base
}

fn open_lock(name: &str, kind: &str) -> File {
    File::create(base().join(format!("{name}.{kind}"))).expect("a lock file")
}

/// A shell that waits for this process to end, however it ends, and then stops the
/// servers, unless another process still uses them.
#[derive(Debug)]
struct TakenDown {
    /// Says that this process uses them. The kernel lets go of it when the process ends.
    _used: File,
    /// The shell, at the other end of a pipe that closes at the same moment.
    _shell: Child,
}

fn take_down_at_the_end(name: &str, directory: &Path) {
    // Statics are not dropped.
    static ALL: Mutex<BTreeMap<PathBuf, TakenDown>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(directory.to_owned()).or_insert_with(|| {
        let used = open_lock(name, "used");
        used.lock_shared().expect("a file can be locked");
        let shell = Command::new("sh")
            .arg("-c")
            .arg("cat >/dev/null; exec flock --nonblock \"$1\" \"$2\" down \"$3\"")
            .arg("sh")
            .arg(base().join(format!("{name}.used")))
            .arg(script())
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Away from the terminal's interrupts.
            .process_group(0)
            .spawn()
            .expect("sh can be run");
        TakenDown {
            _used: used,
            _shell: shell,
        }
    });
}
