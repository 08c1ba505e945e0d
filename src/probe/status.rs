//! `status`: what a running sidecar holds, for a person or as JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ProbeError;
use super::connection::Connection;
use crate::paint::{Paint, Tone};
use crate::proto::introspection::{Configuration, DescribeRequest, DescribeResponse, Key};

/// The state of a sidecar.
#[derive(Debug)]
pub struct State(DescribeResponse);

/// Asks the sidecar at `socket`.
///
/// # Errors
/// When nobody answers in time.
pub async fn status(socket: &Path, timeout: Duration) -> Result<State, ProbeError> {
    let asking = async {
        let connection = Connection::open(socket).await?;
        let answer = connection
            .introspection()
            .describe(DescribeRequest {})
            .await;
        let answer = answer.map_err(|status| ProbeError::Call {
            call: "Describe",
            status,
        })?;
        Ok(State(answer.into_inner()))
    };
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or(Err(ProbeError::Timeout(timeout)))
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
            "keys": state.keys.iter().map(key_json).collect::<Vec<_>>(),
            "configuration": configuration_json(&configuration),
            "last_contact": time(state.last_contact_unix_ms),
            "consecutive_failures": state.consecutive_failures,
            "key_memory": state.key_memory,
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

fn key_json(key: &Key) -> Value {
    json!({
        "id": key.id,
        "id_hash": key.id_hash,
        "write": key.write,
        "held": key.held,
        "confirmed_seconds_ago": key.confirmed_ms_ago.map(|ms| ms / 1000),
        "trouble": some_text(&key.trouble),
        "trouble_text": some_text(&key.trouble_text),
    })
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
        "last_reload": configuration.last_reload.as_ref().map(|last| json!({
            "at": time(last.at_unix_ms),
            "outcome": last.outcome,
            "message": some_text(&last.message),
        })),
    })
}

impl State {
    /// The text of [`fmt::Display`], with colours where `paint` has them.
    pub fn shown(&self, paint: Paint) -> String {
        let mut text = self.to_string();
        for (word, tone) in [
            ("NOT READY", Tone::Bad),
            (", ready,", Tone::Good),
            ("MISSING", Tone::Bad),
            ("never confirmed", Tone::Doubtful),
        ] {
            text = text.replace(word, &paint.tone(tone, word));
        }
        text
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = &self.0;
        let ready = if state.ready { "ready" } else { "NOT READY" };
        writeln!(
            f,
            "barbican-kms {}, {ready}, keys in {}",
            state.version, state.key_memory
        )?;
        for key in &state.keys {
            let role = if key.write { "write  " } else { "decrypt" };
            let held = if key.held { "held   " } else { "MISSING" };
            write!(f, "{role}  {held}  {}", key.id)?;
            match key.confirmed_ms_ago {
                Some(ms) => write!(f, "  confirmed {} s ago", ms / 1000)?,
                None => f.write_str("  never confirmed")?,
            }
            if !key.trouble_text.is_empty() {
                write!(f, "\n         {}", key.trouble_text)?;
            }
            f.write_str("\n")?;
        }
        let contact = time(state.last_contact_unix_ms);
        write!(
            f,
            "Barbican last answered with a key: {}",
            contact.as_deref().unwrap_or("never")
        )?;
        if state.consecutive_failures > 0 {
            write!(f, ", {} failures since", state.consecutive_failures)?;
        }
        let configuration = state.configuration.clone().unwrap_or_default();
        let since = time(configuration.in_force_since_unix_ms).unwrap_or_default();
        write!(f, "\nconfiguration in force since {since}")?;
        if let Some(last) = &configuration.last_reload {
            let at = time(last.at_unix_ms).unwrap_or_default();
            write!(f, "\nlast reload: {} at {at}", last.outcome)?;
            if !last.message.is_empty() {
                write!(f, "\n         {}", last.message)?;
            }
        }
        Ok(())
    }
}

fn some_text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// RFC 3339 to the second; `None` for never.
fn time(unix_ms: u64) -> Option<String> {
    let seconds = i64::try_from(unix_ms / 1000)
        .ok()
        .filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds)
        .ok()
        .map(|time| time.to_string())
}
