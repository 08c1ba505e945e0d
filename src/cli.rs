//! The command line: what can be asked for, and the exit code of each outcome.
//!
//! Called with the flags of the Go plugin alone it serves, so that a manifest of the
//! Go plugin needs only another image.

mod arguments;
pub mod check;
pub mod client;
pub mod probe;
mod refusal;
pub mod rotate;
pub mod status;
pub mod terminal;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;

use crate::instruments::Instruments;
use crate::kms::socket::SocketOptions;
use crate::log::error_chain::ErrorChain;
use crate::log::{self, LogLevel};
use crate::serve::{self, App, ServeOptions, StartError};
use crate::serve::{signals, systemd};

use arguments::{Check, Cli, Command, Probe, Rotate, Serve, StatusArgs};
use check::{Called, Served, Step};
use client::ClientError;
use probe::Depth;
use terminal::Terminal;

/// Wrong arguments or a wrong configuration (sysexits.h, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// Anything else that keeps it from starting, and a probe or check that fails.
const EXIT_FAILURE: u8 = 1;

/// How long the end of the process waits for what is queued for the audit log.
const AUDIT_PATIENCE: Duration = Duration::from_millis(500);

/// The whole command line, for man pages and completions.
pub fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command()
}

/// Does what the arguments say.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(with_default_command(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            let error = refusal::without_values(error);
            // Nothing is left to say it to when this fails.
            let _ = error.print();
            return if error.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command {
        Command::Serve(serve) => run_serve(&serve),
        Command::Probe(probe) => run_probe(&probe),
        Command::Status(status) => run_status(&status),
        Command::Rotate(rotate) => run_rotate(&rotate),
        Command::Check(check) => run_check(&check),
        Command::Version => {
            say(concat!("barbican-kms ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    }
}

/// Where the Go plugin's image has its program, and ours a link.
const GO_PLUGIN: &str = "/bin/barbican-kms-plugin";

/// Flags without a command are the Go plugin's way to say `serve`.
fn with_default_command(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(with_dashes).collect();
    // The Go plugin's DaemonSet names the program as its first argument, since that image
    // has no entrypoint; this one has.
    if arguments.get(1).is_some_and(|first| first == GO_PLUGIN) {
        arguments.remove(1);
    }
    let own = ["-h", "--help", "-V", "--version"];
    let bare_flags = arguments
        .get(1)
        .and_then(|first| first.to_str())
        .is_some_and(|first| first.starts_with('-') && !own.contains(&first));
    if bare_flags {
        arguments.insert(1, "serve".into());
    }
    arguments
}

/// The Go plugin takes `_` for `-` in the name of a flag.
fn with_dashes(argument: OsString) -> OsString {
    let Some(flag) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
        return argument;
    };
    let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
    format!("--{}{value}", name.replace('_', "-")).into()
}

/// What a command line in a manifest asks for; or why it is refused, in one line.
pub(crate) fn understand(words: Vec<OsString>) -> Result<Called, String> {
    let cli = Cli::try_parse_from(with_default_command(words)).map_err(|error| {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let said = first.trim_start_matches("error: ");
        match said.strip_suffix(':') {
            Some(said) => format!("{said}: {}", lines.next().unwrap_or_default()),
            None => said.to_owned(),
        }
    })?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    Ok(match cli.command {
        Command::Serve(serve) => Called::Serve(Served {
            socketpath: text(&serve.socketpath),
            cloud_config: text(&serve.cloud_config),
            socket_mode: serve.socket_mode,
            socket_group: serve.socket_group,
            metrics_address: serve.metrics_address,
            audit_log: serve.audit_log.as_deref().map(text),
        }),
        Command::Probe(probe) => Called::Probe {
            socketpath: probe.socketpath,
            asks_for_a_key: probe.ready || probe.deep,
            timeout_ms: probe.timeout_ms,
        },
        Command::Status(status) => Called::Status {
            socketpath: status.socketpath,
        },
        _ => Called::Other,
    })
}

fn run_serve(serve: &Serve) -> ExitCode {
    // klog's 4 and above is debugging.
    let klog_level = serve
        .klog
        .verbosity
        .filter(|v| *v >= 4)
        .map(|_| LogLevel::Debug);
    let level = serve.log.log_level.or(klog_level).unwrap_or_default();
    let instruments = Arc::new(Instruments::default());
    // Dropped, and so written to its end, after all else.
    let _log = match log::start(serve.log.log_format, level, &instruments) {
        Ok(log) => log,
        Err(error) => return fail(EXIT_FAILURE, &error),
    };
    let options = ServeOptions {
        socket: SocketOptions {
            path: serve.socketpath.clone(),
            mode: serve.socket_mode,
            group: serve.socket_group,
        },
        cloud_config: serve.cloud_config.clone(),
        metrics: serve.metrics_address,
        audit_log: serve.audit_log.clone(),
        slow_check: Duration::from_secs(serve.slow_check_seconds),
    };
    let mut audit = None;
    let code = block_on(async {
        let signals = match signals::Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                serve::log_end(&error);
                return EXIT_FAILURE.into();
            }
        };
        match App::build(options, instruments).await {
            Ok(mut app) => {
                audit = app.audit_writer();
                let (signal, hangups) = signals.split();
                let shutdown = async {
                    signal.await;
                    systemd::report_stopping();
                };
                let keyring = app.keyring();
                let is_alive = async |timeout| {
                    let answer = probe::probe(&serve.socketpath, Depth::Live, timeout).await;
                    answer.is_ok()
                };
                let outcome = tokio::select! {
                    outcome = app.run(shutdown, hangups) => outcome,
                    never = systemd::report(&keyring, is_alive) => match never {},
                };
                match outcome {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        serve::log_end(&error);
                        EXIT_FAILURE.into()
                    }
                }
            }
            Err(error) => {
                let usage = matches!(error, StartError::Config(_) | StartError::Cloud(_));
                serve::log_failed_start(&error);
                ExitCode::from(if usage { EXIT_USAGE } else { EXIT_FAILURE })
            }
        }
    });
    // By now the calls that were cut off are dropped, and so noted.
    if let Some(audit) = audit {
        audit.finish(AUDIT_PATIENCE);
    }
    code
}

fn run_probe(probe: &Probe) -> ExitCode {
    let depth = match (probe.deep, probe.ready) {
        (true, _) => Depth::Deep,
        (_, true) => Depth::Ready,
        _ => Depth::Live,
    };
    let timeout = Duration::from_millis(probe.timeout_ms);
    block_on(async {
        match probe::probe(&probe.socketpath, depth, timeout).await {
            Ok(found) => {
                say(&found.line);
                if let Some(round_trip) = found.round_trip.filter(|_| probe.show) {
                    say(&round_trip.to_string());
                }
                ExitCode::SUCCESS
            }
            Err(error) => fail_probe(&error),
        }
    })
}

fn run_status(arguments: &StatusArgs) -> ExitCode {
    let timeout = Duration::from_millis(arguments.timeout_ms);
    block_on(async {
        match status::status(&arguments.socketpath, timeout).await {
            Ok(state) => {
                if arguments.json {
                    say(&format!("{:#}", state.to_json()));
                } else {
                    say(&state.shown(Terminal::for_stdout()));
                }
                ExitCode::from(if state.ready() { 0 } else { EXIT_FAILURE })
            }
            Err(error) => fail_probe(&error),
        }
    })
}

fn run_rotate(arguments: &Rotate) -> ExitCode {
    let plan = rotate::plan(
        &arguments.cloud_config,
        &arguments.socketpath,
        arguments.new_key_id,
    );
    match plan {
        Ok(plan) => {
            say(&plan.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_USAGE, &error),
    }
}

fn run_check(check: &Check) -> ExitCode {
    block_on(async {
        let terminal = Terminal::for_stdout();
        let mut on_step = |step: &Step| {
            if !check.json {
                say(&step.shown(terminal));
            }
        };
        let files = check::Files {
            cloud_config: check.cloud_config.clone(),
            encryption_config: check.encryption_config.clone(),
            manifest: check.manifest.clone(),
            understand: Some(understand),
        };
        let report = check::check(&files, &mut on_step).await;
        if check.json {
            say(&report.to_json());
        }
        if report.succeeded() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_FAILURE)
        }
    })
}

/// One thread: the work is small, and fewer threads have fewer stacks to leave
/// secrets on.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A name lookup cannot be called off, and may take half a minute more.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(EXIT_FAILURE, &error),
    }
}

/// The answer of a command. Nobody is left to tell it to when that fails, as when the
/// reader of a pipe has gone; `println!` would panic.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn fail(code: u8, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    complain(&ErrorChain(error).to_string());
    ExitCode::from(code)
}

fn fail_probe(error: &ClientError) -> ExitCode {
    complain(&format!("{}; {}", ErrorChain(error), error.next_step()));
    ExitCode::from(EXIT_FAILURE)
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "barbican-kms: {text}");
}

#[cfg(test)]
mod tests {
    use super::arguments::{parse_mode, parse_socket_path};
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = line.split_whitespace().map(OsString::from);
        Cli::try_parse_from(with_default_command(words))
    }

    #[test]
    fn the_flags_of_the_go_plugin_alone_serve() {
        for line in [
            "barbican-kms-plugin --socketpath=/kms/kms.sock --cloud-config=/etc/config/cloud.conf",
            "barbican-kms-plugin --socketpath /kms/kms.sock --cloud-config /etc/config/cloud.conf",
            "barbican-kms /bin/barbican-kms-plugin --socketpath=/s --cloud-config=/c",
            "barbican-kms-plugin --socketpath /s --cloud-config /c -v=5",
            "barbican-kms-plugin --v=2 --logtostderr --socketpath /s --cloud-config /c",
            "barbican-kms-plugin --logtostderr=true --socketpath /s --cloud-config /c",
            "barbican-kms-plugin --log-flush-frequency=5s --vmodule=a=1 --socketpath /s --cloud-config /c",
            "barbican-kms-plugin --log_flush_frequency 5s --socketpath /s --cloud_config /c",
            "barbican-kms-plugin --skip_headers --log_dir=/x --one-output=false --log_file /y \
             --log-file-max-size 1 --add_dir_header --skip-log-headers=true \
             --log-backtrace-at=a.go:1 --stderrthreshold=2 --alsologtostderr --socketpath /s \
             --cloud-config /c",
            "barbican-kms-plugin --socketpath /a --socketpath /s --cloud-config /c -v 2 -v=5",
            "barbican-kms-plugin --socketpath unix:///s --cloud-config /c",
            "barbican-kms serve --socketpath /s --cloud-config=/c --socket-mode 0660",
        ] {
            let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let Command::Serve(serve) = cli.command else {
                panic!("{line} does not serve")
            };
            let path = serve.socketpath;
            assert!(
                path.starts_with("/s") || path.starts_with("/kms"),
                "{line}: {path:?}"
            );
        }
    }

    #[test]
    fn a_socket_is_a_path_or_its_url() {
        let path = |text: &str| parse_socket_path(text.into());
        for text in [
            "/run/kms.sock",
            "unix:///run/kms.sock",
            "unix:/run/kms.sock",
        ] {
            assert_eq!(path(text), Ok("/run/kms.sock".into()), "{text}");
        }
        assert_eq!(path("kms.sock"), Ok("kms.sock".into()));
        for (text, expected) in [
            ("@kms", "is an abstract socket"),
            ("unix:///@kms", "three slashes"),
            ("unix://run/kms.sock", "three slashes"),
            ("unix:", "three slashes"),
        ] {
            let refusal = path(text).expect_err(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_missing_flag_is_named() {
        let error = parse("barbican-kms --socketpath /s").expect_err("no cloud-config");
        assert!(error.to_string().contains("--cloud-config"), "{error}");
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        for wrong in ["", "0800", "1777", "rw", "-1"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
