//! `status`: what a running sidecar holds, for a person or as JSON.

mod line;
mod ring;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{CHECK, ClientError, Connection};
use super::terminal::{Severity, Terminal, wrap};

use crate::proto::introspection::{Configuration, DescribeRequest, DescribeResponse, DroppedKey};
use line::{Line, some_text, time};

const DAY_SECONDS: u64 = 24 * 3600;

/// The state of a sidecar.
#[derive(Debug)]
pub struct State(DescribeResponse);

/// Asks the sidecar at `socket`.
///
/// # Errors
/// When nobody answers in time.
pub async fn status(socket: &Path, timeout: Duration) -> Result<State, ClientError> {
    let asking = async {
        let connection = Connection::open(socket).await?;
        let answer = connection
            .introspection()
            .describe(DescribeRequest {})
            .await;
        let answer = answer.map_err(|status| ClientError::Call {
            call: "Describe",
            status,
        })?;
        Ok(State(answer.into_inner()))
    };
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or(Err(ClientError::Timeout(timeout)))
}

impl State {
    /// Whether the sidecar can serve.
    pub fn ready(&self) -> bool {
        self.0.ready
    }

    /// One JSON document.
    pub fn to_json(&self) -> Value {
        let state = &self.0;
        let configuration = state.configuration.clone().unwrap_or_default();
        json!({
            "version": state.version,
            "ready": state.ready,
            "write_key_id": write_id(state),
            "keys": state.keys.iter().map(ring::key_json).collect::<Vec<_>>(),
            "configuration": configuration_json(&configuration),
            "last_contact": time(state.last_contact_unix_ms),
            "consecutive_failures": state.consecutive_failures,
            "key_memory": state.key_memory,
            "credential_ends": time(state.credential_end_unix_ms),
            "revalidate_interval_seconds": state.revalidate_interval_ms / 1000,
            "ring": ring::json(&state.ring.clone().unwrap_or_default()),
        })
    }
}

fn write_id(state: &DescribeResponse) -> Option<&str> {
    state
        .keys
        .iter()
        .find(|key| key.write)
        .map(|key| key.id.as_str())
}

fn configuration_json(configuration: &Configuration) -> Value {
    json!({
        "in_force_since": time(configuration.in_force_since_unix_ms),
        "reloads": {
            "applied": configuration.applied,
            "unchanged": configuration.unchanged,
            "invalid": configuration.invalid,
            "refused": configuration.refused,
            "failed": configuration.failed,
        },
        "keys_dropped": configuration.dropped.iter().map(|key| json!({
            "id": key.id,
            "at": time(key.at_unix_ms),
            "last_used": key.last_used_unix_ms.and_then(time),
        })).collect::<Vec<_>>(),
        "last_reload": configuration.last_reload.as_ref().map(|last| json!({
            "at": time(last.at_unix_ms),
            "outcome": last.outcome,
            "message": some_text(&last.message),
            "keys_added": last.added,
            "keys_removed": last.removed,
        })),
    })
}

impl State {
    /// The state as `terminal` has it: on a terminal with a symbol for each line, and with
    /// long texts broken into lines.
    pub fn shown(&self, terminal: Terminal) -> String {
        let lines = self.lines().into_iter();
        let lines: Vec<String> = match terminal {
            Terminal::Plain => lines.map(|line| plain(&line)).collect(),
            Terminal::Colour => lines.map(|line| coloured(&line, terminal)).collect(),
        };
        lines.join("\n")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "for a person, at this very moment"
    )]
    fn lines(&self) -> Vec<Line> {
        let state = &self.0;
        let ready = if state.ready { "ready" } else { "NOT READY" };
        let head = format!(
            "barbican-kms {}, {ready}, keys in {}",
            state.version, state.key_memory
        );
        let mut lines = vec![Line::new(state.ready, Severity::Error, head)];
        let ring = state.ring.clone().unwrap_or_default();
        lines.extend(state.keys.iter().map(|key| ring::key_line(&ring, key)));
        lines.extend(ring::lines(&ring));
        lines.push(contact_line(state));
        lines.extend(credential_line(state, Timestamp::now()));
        let configuration = state.configuration.clone().unwrap_or_default();
        let since = time(configuration.in_force_since_unix_ms).unwrap_or_default();
        let in_force = format!("configuration in use since {since}");
        lines.push(Line::new(true, Severity::Ok, in_force));
        if let Some(last) = &configuration.last_reload {
            let at = time(last.at_unix_ms).unwrap_or_default();
            let good = matches!(last.outcome.as_str(), "applied" | "unchanged");
            let text = format!("last reload: {} at {at}", last.outcome);
            lines.push(Line::new(good, Severity::Error, text).and(&last.message));
            for (what, ids) in [("added", &last.added), ("removed", &last.removed)] {
                lines.extend(
                    ids.iter()
                        .map(|id| Line::new(true, Severity::Ok, format!("{what} by it: {id}"))),
                );
            }
        }
        lines.extend(configuration.dropped.iter().map(dropped_line));
        if !state.ready {
            lines.push(Line::new(false, Severity::Error, format!("to do: {CHECK}")));
        }
        lines
    }
}

/// Who used a key shortly before it went may still need it.
fn dropped_line(key: &DroppedKey) -> Line {
    let at = time(key.at_unix_ms).unwrap_or_default();
    let used = key.last_used_unix_ms;
    let ago = used.map(|used| key.at_unix_ms.saturating_sub(used) / 1000);
    let use_before = match ago {
        Some(seconds) => format!("last used {seconds} s earlier"),
        None => "not used since this process started".to_owned(),
    };
    let unused = ago.is_none_or(|seconds| seconds > DAY_SECONDS);
    let text = format!("removed by a reload: {} at {at}, {use_before}", key.id);
    Line::new(unused, Severity::Warning, text)
}

fn contact_line(state: &DescribeResponse) -> Line {
    let contact = time(state.last_contact_unix_ms);
    let failures = match state.consecutive_failures {
        0 => String::new(),
        failures => format!(", {failures} failures since"),
    };
    let text = format!(
        "Barbican last answered with a key: {}{failures}",
        contact.as_deref().unwrap_or("never")
    );
    let good = contact.is_some() && state.consecutive_failures == 0;
    Line::new(good, Severity::Warning, text)
}

/// When the application credential ends, if that is known.
fn credential_line(state: &DescribeResponse, now: Timestamp) -> Option<Line> {
    let end: Timestamp = time(state.credential_end_unix_ms)?.parse().ok()?;
    let left = end.duration_since(now).as_hours();
    let severity = match left {
        ..168 => Severity::Error,
        168..720 => Severity::Warning,
        _ => Severity::Ok,
    };
    let text = format!("application credential ends at {end}");
    let line = Line::new(severity == Severity::Ok, severity, text);
    Some(if severity == Severity::Ok {
        line
    } else {
        line.and(
            "create a new one and write it to the cloud-config before that: it is used without a \
             restart",
        )
    })
}

fn plain(line: &Line) -> String {
    let text = &line.text;
    some_text(&line.more).map_or_else(|| text.clone(), |more| format!("{text}\n         {more}"))
}

fn coloured(line: &Line, terminal: Terminal) -> String {
    let symbol = terminal.colour(line.severity, line.severity.symbol());
    let text = format!("{symbol} {}", line.text);
    match some_text(&line.more) {
        None => text,
        Some(more) => format!("{text}\n{}", terminal.colour(line.severity, &wrap(more, 4))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::introspection::{Key, LastReload};

    fn state() -> State {
        let key = |write, held, problem: &str| Key {
            id: "b5309dfb-b326-4148-b0ad-e9cd1ec223a8".to_owned(),
            write,
            held,
            confirmed_ms_ago: held.then_some(12_345),
            problem_text: problem.to_owned(),
            problem: problem.to_owned(),
            ..Key::default()
        };
        State(DescribeResponse {
            version: "1.2.3".to_owned(),
            key_memory: "memfd_secret".to_owned(),
            keys: vec![
                key(true, true, ""),
                key(false, true, "Barbican refuses access to it"),
                key(false, false, "it is being loaded"),
            ],
            last_contact_unix_ms: 1_700_000_000_000,
            consecutive_failures: 2,
            configuration: Some(Configuration {
                in_force_since_unix_ms: 1_700_000_000_000,
                last_reload: Some(LastReload {
                    at_unix_ms: 1_700_000_000_000,
                    outcome: "invalid".to_owned(),
                    message: "cloud.conf: ".to_owned() + &"a long text ".repeat(9),
                    ..LastReload::default()
                }),
                ..Configuration::default()
            }),
            ..DescribeResponse::default()
        })
    }

    #[test]
    fn on_a_terminal_each_line_has_a_symbol_and_long_texts_are_broken() {
        let shown = state().shown(Terminal::Colour).replace('\u{1b}', "^");
        let long = "a long text ".repeat(5);
        let expected = format!(
            "^[1;31m\u{2717}^[0m barbican-kms 1.2.3, NOT READY, keys in memfd_secret\n\
             ^[32m\u{2713}^[0m write    held     b5309dfb-b326-4148-b0ad-e9cd1ec223a8  confirmed 12 s ago\n\
             ^[33m!^[0m decrypt  held     b5309dfb-b326-4148-b0ad-e9cd1ec223a8  confirmed 12 s ago\n\
             ^[33m    Barbican refuses access to it^[0m\n\
             ^[1;31m\u{2717}^[0m decrypt  MISSING  b5309dfb-b326-4148-b0ad-e9cd1ec223a8  never confirmed\n\
             ^[1;31m    it is being loaded^[0m\n\
             ^[33m!^[0m Barbican last answered with a key: 2023-11-14T22:13:20Z, 2 failures since\n\
             ^[32m\u{2713}^[0m configuration in use since 2023-11-14T22:13:20Z\n\
             ^[1;31m\u{2717}^[0m last reload: invalid at 2023-11-14T22:13:20Z\n\
             ^[1;31m    cloud.conf: {long}a\n    long text {}^[0m\n\
             ^[1;31m\u{2717}^[0m to do: `barbican-kms check --cloud-config FILE` shows the cause in detail",
            "a long text ".repeat(3).trim_end()
        );
        assert_eq!(shown, expected, "\n{shown}");
    }

    #[test]
    fn elsewhere_there_are_words_alone() {
        let shown = state().shown(Terminal::Plain);
        assert!(
            !shown.contains(['\u{1b}', '\u{2713}', '\u{2717}']),
            "{shown}"
        );
        assert!(
            shown.contains("\n         Barbican refuses access to it\n"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), 11, "{shown}");
    }
}
