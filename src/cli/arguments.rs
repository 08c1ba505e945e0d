//! What can be asked for: the definition of the command line.
//!
//! Help, man pages and completions are made of the comments here.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::config::watch;
use crate::key_id::KeyId;
use crate::log::{LogFormat, LogLevel};
use crate::serve;

/// A larger number would only be a typing error, and the clock's end is not far beyond.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Kubernetes KMS v2 sidecar that keeps its key-encryption key in OpenStack Barbican
#[derive(Debug, Parser)]
#[command(name = "barbican-kms", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve KMS v2 on a unix socket (the default command)
    Serve(Box<Serve>),
    /// Test whether a running sidecar is healthy; for exec probes
    Probe(Probe),
    /// Show the state of a running sidecar
    Status(StatusArgs),
    /// Print the exact steps of a key rotation for this configuration
    Rotate(Rotate),
    /// Check the setup step by step, from the files to the key
    Check(Check),
    /// Print the version
    Version,
}

// As in Go, the last of several flags of one name counts.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct Serve {
    /// Path of the unix socket, as in kube-apiserver's configuration
    #[arg(long, value_name = "PATH", value_parser = socket_path())]
    pub(super) socketpath: PathBuf,
    /// The cloud-config file of the Go plugin; *.toml is read as strict TOML
    #[arg(long, value_name = "FILE")]
    pub(super) cloud_config: PathBuf,
    /// Permissions of the socket, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(super) socket_mode: u32,
    /// Group of the socket, by number or by its name in /etc/group
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    pub(super) socket_group: Option<u32>,
    /// Address for /metrics, /livez and /readyz, such as 127.0.0.1:9464 [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    pub(super) metrics_address: Option<SocketAddr>,
    /// Append one JSON line for each Encrypt and Decrypt to this file [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) audit_log: Option<PathBuf>,
    /// How often to compare file contents even when no change is notified, in seconds
    #[arg(long, hide = true, value_name = "S", default_value_t = watch::SLOW_CHECK.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=DAY_SECONDS))]
    pub(super) slow_check_seconds: u64,
    #[command(flatten)]
    pub(super) log: Log,
    #[command(flatten)]
    pub(super) klog: Klog,
}

#[derive(Debug, Args)]
pub(super) struct Log {
    /// Format of the log lines [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// Lowest severity to log
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<LogLevel>,
}

/// Flags of the Go plugin's log library, which existing manifests may carry.
#[derive(Debug, Args)]
#[expect(
    clippy::option_option,
    reason = "a flag that may stand alone or with a value"
)]
pub(super) struct Klog {
    #[arg(short = 'v', long = "v", hide = true, value_name = "N")]
    pub(super) verbosity: Option<i32>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) logtostderr: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) alsologtostderr: Option<Option<String>>,
    #[arg(long, hide = true)]
    pub(super) stderrthreshold: Option<String>,
    #[arg(long, hide = true)]
    pub(super) vmodule: Option<String>,
    #[arg(long, hide = true)]
    pub(super) log_flush_frequency: Option<String>,
    #[arg(long, hide = true)]
    pub(super) log_backtrace_at: Option<String>,
    #[arg(long, hide = true)]
    pub(super) log_dir: Option<String>,
    #[arg(long, hide = true)]
    pub(super) log_file: Option<String>,
    #[arg(long, hide = true)]
    pub(super) log_file_max_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) add_dir_header: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) one_output: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) skip_headers: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    pub(super) skip_log_headers: Option<Option<String>>,
}

#[derive(Debug, Args)]
pub(super) struct Probe {
    /// Path of the sidecar's socket
    #[arg(long, value_name = "PATH", value_parser = socket_path())]
    pub(super) socketpath: PathBuf,
    /// Fail unless Status is ok, that is, a usable write key is held
    #[arg(long, conflicts_with = "deep")]
    pub(super) ready: bool,
    /// Fail unless Encrypt and Decrypt return the same 32 random bytes
    #[arg(long)]
    pub(super) deep: bool,
    /// Print the status and what a deep probe wrapped and unwrapped, in hexadecimal
    #[arg(long, requires = "deep")]
    pub(super) show: bool,
    /// Fail when there is no answer within this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(super) timeout_ms: u64,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The cloud-config file to check
    #[arg(long, value_name = "FILE", required_unless_present_any = ["encryption_config", "manifest"])]
    pub(super) cloud_config: Option<PathBuf>,
    /// kube-apiserver's EncryptionConfiguration to check
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_config: Option<PathBuf>,
    /// kube-apiserver's static pod manifest to check
    #[arg(long, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Path of the sidecar's socket
    #[arg(long, value_name = "PATH", value_parser = socket_path())]
    pub(super) socketpath: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Fail when there is no answer within this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub(super) timeout_ms: u64,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The cloud-config file in use
    #[arg(long, value_name = "FILE")]
    pub(super) cloud_config: PathBuf,
    /// The key to rotate to, if it exists already
    #[arg(long, value_name = "UUID", value_parser = KeyId::from_reference)]
    pub(super) new_key_id: Option<KeyId>,
    /// Path of the sidecar's socket, for the printed commands
    #[arg(
        long,
        value_name = "PATH",
        value_parser = socket_path(),
        default_value = "/run/barbican-kms/kms.sock"
    )]
    pub(super) socketpath: PathBuf,
}

/// A path, or a URL of it as in kube-apiserver's configuration.
fn socket_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(parse_socket_path)
}

pub(super) fn parse_socket_path(text: OsString) -> Result<PathBuf, String> {
    let Some(text) = text.to_str() else {
        return Ok(text.into());
    };
    if text.starts_with('@') {
        return Err(
            "a name that begins with `@` is an abstract socket without owner and mode: every \
             process in the network namespace could unwrap with it; give the path of a file, such \
             as /run/barbican-kms/kms.sock"
                .to_owned(),
        );
    }
    let Some(rest) = text.strip_prefix("unix:") else {
        return Ok(text.into());
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') && !path.starts_with("/@") {
        Ok(path.into())
    } else {
        Err(
            "a URL of a socket has three slashes, unix:///run/barbican-kms/kms.sock; or give the \
             path alone"
                .to_owned(),
        )
    }
}

pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(
            "expected permission bits in octal, such as 0600 for the owner only or 0660 for owner \
             and group"
                .to_owned(),
        ),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| {
        "expected an address and a port, such as 127.0.0.1:9464 or [::1]:9464; names are not \
         resolved"
            .to_owned()
    })
}

/// A number, or a name that stands in /etc/group. In an image without that file only
/// numbers work.
fn parse_group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    serve::group_number(text)
        .ok_or_else(|| "there is no such group in /etc/group; give its number".to_owned())
}
