//! The real binary, with a directory of its own for its socket and its configuration.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Status};

use super::client::Client;
use super::patience::until;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_barbican-kms");

/// A directory with a cloud-config and room for a socket, for one or more processes.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    config: PathBuf,
    starts: AtomicUsize,
}

/// A running `serve`. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Sidecar {
    child: Child,
    socket: PathBuf,
    output: PathBuf,
    errors: PathBuf,
}

/// What a command that ends has said.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    /// The exit code; a signal's number plus 128, as shells have it.
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// The configuration has a directory of its own, as only that one is watched.
const CONFIG: &str = "config";

impl Place {
    /// With a gcfg file of this text.
    pub(crate) fn new(config: &str) -> Self {
        Self::with_file("cloud.conf", config)
    }

    /// The file's name decides how it is read.
    pub(crate) fn with_file(name: &str, config: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("kms")
            .tempdir()
            .expect("a directory");
        std::fs::create_dir(directory.path().join(CONFIG)).expect("a directory");
        let place = Self {
            config: directory.path().join(CONFIG).join(name),
            directory,
            starts: AtomicUsize::new(0),
        };
        place.write(name, config);
        place
    }

    /// Writes a file next to the cloud-config, for the owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(CONFIG).join(name);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("kms.sock")
    }

    /// Starts `serve`.
    pub(crate) fn start(&self) -> Sidecar {
        self.start_with(&[])
    }

    /// Starts `serve` with further arguments.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Sidecar {
        self.spawn(self.serve(arguments))
    }

    /// `serve` with further arguments.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("serve");
        command
            .arg("--socketpath")
            .arg(self.socket())
            .arg("--cloud-config")
            .arg(&self.config)
            .args(arguments);
        command
    }

    /// Starts a command of whatever arguments as a server.
    pub(crate) fn spawn(&self, command: Command) -> Sidecar {
        self.spawn_to(command, None)
    }

    /// The same with another standard error than a file.
    pub(crate) fn spawn_to(&self, mut command: Command, stderr: Option<Stdio>) -> Sidecar {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let output = self.path(&format!("output-{number}"));
        let errors = self.path(&format!("errors-{number}"));
        let file = File::create(&errors).expect("a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(stderr.unwrap_or_else(|| file.into()))
            .spawn()
            .expect("the binary runs");
        Sidecar {
            child,
            socket: self.socket(),
            output,
            errors,
        }
    }

    /// The binary with an empty environment.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg(name)
            .env_clear()
            .current_dir(self.directory.path());
        command
    }

    /// `probe` with these further arguments.
    pub(crate) async fn probe(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.command("probe");
        command
            .arg("--socketpath")
            .arg(self.socket())
            .args(arguments);
        run(command).await
    }

    /// `check` with these further arguments.
    pub(crate) async fn check(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.command("check");
        command
            .arg("--cloud-config")
            .arg(&self.config)
            .args(arguments);
        run(command).await
    }
}

impl Sidecar {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection, as soon as somebody listens.
    pub(crate) async fn client(&mut self) -> Client {
        let socket = self.socket.clone();
        self.until("it listens", async |_| Client::open(&socket).await.ok())
            .await
    }

    /// A connection as soon as somebody listens, or nothing when the process has ended.
    pub(crate) async fn client_or_end(&mut self) -> Option<Client> {
        let socket = self.socket.clone();
        until("it listens or ends", async || {
            if self.child.try_wait().expect("our child").is_some() {
                return Some(None);
            }
            // A process that is about to refuse its configuration listens already, so only
            // an answer shows that it serves.
            let client = Client::open(&socket).await.ok()?;
            let serves = match client.status().await {
                Ok(_) => true,
                Err(status) => status.message().contains("not loaded"),
            };
            serves.then_some(Some(client))
        })
        .await
    }

    /// A connection, as soon as Status is ok.
    pub(crate) async fn ready(&mut self) -> Client {
        let client = self.client().await;
        self.until("it is ready", async |_| client.status().await.ok())
            .await;
        client
    }

    /// Waits until Status is answered with this error's text.
    pub(crate) async fn unavailable(&mut self, client: &Client, text: &str) {
        let wanted =
            |status: &Status| status.code() == Code::Unavailable && status.message().contains(text);
        self.until(text, async |_| client.status().await.err().filter(wanted))
            .await;
    }

    /// The first event of the log whose message contains `text`, once it is there.
    pub(crate) async fn logged(&mut self, text: &str) -> Value {
        self.logged_times(text, 1).await
    }

    /// The `count`th such event.
    pub(crate) async fn logged_times(&mut self, text: &str, count: usize) -> Value {
        self.until(text, async |sidecar| {
            let mut found = sidecar.log().into_iter().filter(|event| {
                let message = event.get("message").and_then(Value::as_str);
                message.is_some_and(|message| message.contains(text))
            });
            found.nth(count - 1)
        })
        .await
    }

    /// Polls, and panics with the log when the process has ended or time is up.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> T {
        let errors = self.errors.clone();
        let what = format!("{what}; the log is {}", errors.display());
        until(&what, async || {
            if let Some(seen) = look(self).await {
                return Some(seen);
            }
            if let Some(status) = self.child.try_wait().expect("our child") {
                panic!(
                    "{what}: the process has ended, {status}:\n{}",
                    self.errors()
                );
            }
            None
        })
        .await
    }

    /// The log's events so far. Lines that are not JSON are left out.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.errors();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Standard error so far.
    pub(crate) fn errors(&self) -> String {
        super::read_text(&self.errors)
    }

    /// The same, byte for byte.
    pub(crate) fn errors_raw(&self) -> Vec<u8> {
        super::read_bytes(&self.errors)
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> String {
        super::read_text(&self.output)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our child");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> CommandOutput {
        let status = until("the process ends", async || {
            self.child.try_wait().expect("our child")
        })
        .await;
        self.said(status)
    }

    /// What it has said, if it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<CommandOutput> {
        let status = self.child.try_wait().expect("our child")?;
        Some(self.said(status))
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&mut self) -> CommandOutput {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// SIGKILL, and waits for the end.
    pub(crate) async fn kill(&mut self) -> CommandOutput {
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// The resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most resident memory that there ever was, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = super::read_text(Path::new(&path));
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect(field)
    }

    fn said(&self, status: ExitStatus) -> CommandOutput {
        CommandOutput {
            code: code(status),
            output: self.output(),
            errors: self.errors(),
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the sidecar's log:\n{}", self.errors());
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> CommandOutput {
    let made = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the binary runs");
    CommandOutput {
        code: code(made.status),
        output: String::from_utf8_lossy(&made.stdout).into_owned(),
        errors: String::from_utf8_lossy(&made.stderr).into_owned(),
    }
}

/// The binary with these arguments alone, to its end.
pub(crate) async fn barbican_kms(arguments: &[&str]) -> CommandOutput {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear();
    run(command).await
}

fn code(status: ExitStatus) -> i32 {
    let signal = || status.signal().map_or(-1, |signal| 128 + signal);
    status.code().unwrap_or_else(signal)
}
