//! The keys and where the list of them comes from, for `status`.

use std::time::Duration;

use serde_json::{Value, json};

use super::line::{Line, date, some_text, time};
use crate::cli::terminal::Severity;
use crate::proto::introspection::{Key, Ring};

/// Kubernetes asks for a new key this often.
const ROTATION: Duration = Duration::from_secs(90 * 24 * 3600);

pub(super) fn key_json(key: &Key) -> Value {
    json!({
        "id": key.id,
        "id_hash": key.id_hash,
        "write": key.write,
        "held": key.held,
        "confirmed_seconds_ago": key.confirmed_ms_ago.map(|ms| ms / 1000),
        "problem": some_text(&key.problem),
        "problem_text": some_text(&key.problem_text),
        "active_from": key.active_from_unix_ms.and_then(date),
        "listed": key.listed,
        "pinned": key.pinned,
        "secret_gone": key.secret_gone,
        "last_wrapped_seconds_ago": key.wrapped_ms_ago.map(|ms| ms / 1000),
        "last_unwrapped_seconds_ago": key.unwrapped_ms_ago.map(|ms| ms / 1000),
    })
}

pub(super) fn json(ring: &Ring) -> Value {
    let container = some_text(&ring.container_id);
    json!({
        "source": if container.is_some() { "container" } else { "file" },
        "container_id": container,
        "read_at": time(ring.read_at_unix_ms),
        "problem": some_text(&ring.problem),
        "problem_text": some_text(&ring.problem_text),
        "warnings": ring.warnings,
        "next_activation": ring.next_activation.as_ref().map(|next| json!({
            "key_id": next.key_id,
            "at": date(next.at_unix_ms),
        })),
        "write_key_age_seconds": ring.write_key_age_ms.map(|ms| ms / 1000),
    })
}

pub(super) fn key_line(ring: &Ring, key: &Key) -> Line {
    let role = if key.write { "write  " } else { "decrypt" };
    let held = if key.held { "held   " } else { "MISSING" };
    let confirmed = match key.confirmed_ms_ago {
        Some(ms) => format!("confirmed {} s ago", ms / 1000),
        None => "never confirmed".to_owned(),
    };
    let place = place(ring, key).map_or_else(String::new, |place| format!(", {place}"));
    let text = format!("{role}  {held}  {}  {confirmed}{place}", key.id);
    let fine = key.held && key.problem.is_empty();
    let otherwise = if key.held && !key.secret_gone {
        Severity::Warning
    } else {
        Severity::Error
    };
    let more = if key.secret_gone {
        format!("{}; {GONE}", key.problem_text)
    } else {
        key.problem_text.clone()
    };
    Line::new(fine, otherwise, text).and(&more)
}

const GONE: &str = "this process may hold the last copy, so it is kept: do not restart the sidecars, \
     restore the secret from a backup of Barbican, or have everything written again with the write \
     key";

/// What the container says of a key.
fn place(ring: &Ring, key: &Key) -> Option<String> {
    some_text(&ring.container_id)?;
    let place = match (key.active_from_unix_ms.and_then(date), key.listed) {
        (_, false) if key.pinned => "pinned".to_owned(),
        (_, false) => "no longer listed".to_owned(),
        (Some(from), true) => format!("active from {from}"),
        (None, true) => "staged".to_owned(),
    };
    Some(place)
}

/// About the container, if one lists the keys.
pub(super) fn lines(ring: &Ring) -> Vec<Line> {
    let Some(container) = some_text(&ring.container_id) else {
        return Vec::new();
    };
    let read = time(ring.read_at_unix_ms);
    let read = read.map_or_else(|| "never read".to_owned(), |at| format!("read at {at}"));
    let text = format!("keys by the container {container}, {read}");
    let good = ring.problem.is_empty();
    let mut lines = vec![Line::new(good, Severity::Error, text).and(&ring.problem_text)];
    for warning in &ring.warnings {
        let text = format!("in the container: {warning}");
        lines.push(Line::new(false, Severity::Warning, text));
    }
    if let Some(next) = &ring.next_activation {
        let at = date(next.at_unix_ms).unwrap_or_default();
        let text = format!("next write key: {} at {at}", next.key_id);
        lines.push(Line::new(true, Severity::Ok, text));
    }
    let old = |age: &Duration| *age > ROTATION;
    if let Some(age) = ring.write_key_age_ms.map(Duration::from_millis).filter(old) {
        let text = format!("the write key is {} days old", age.as_secs() / 86_400);
        let more = "Kubernetes asks for a new one every 90 days: `rotate-key`";
        lines.push(Line::new(false, Severity::Warning, text).and(more));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::introspection::Activation;

    const ID: &str = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8";

    fn ring() -> Ring {
        Ring {
            container_id: "7c2d3f1e-0000-4148-b0ad-e9cd1ec223a8".to_owned(),
            read_at_unix_ms: 1_700_000_000_000,
            next_activation: Some(Activation {
                key_id: ID.to_owned(),
                at_unix_ms: 1_700_000_300_000,
            }),
            write_key_age_ms: Some(91 * 86_400_000),
            ..Ring::default()
        }
    }

    #[test]
    fn the_ring_of_a_container_is_told_as_json() {
        let json = json(&ring());
        assert_eq!(json["source"], "container");
        assert_eq!(json["read_at"], "2023-11-14T22:13:20Z");
        assert_eq!(json["next_activation"]["at"], "2023-11-14T22:18:20Z");
        assert_eq!(json["write_key_age_seconds"], 91 * 86_400);
        assert_eq!(json["problem"], Value::Null);
        let file = super::json(&Ring::default());
        assert_eq!(file["source"], "file");
        assert_eq!(file["container_id"], Value::Null);
    }

    #[test]
    fn each_key_says_what_the_container_makes_of_it() {
        let key = |from: Option<i64>, listed, pinned| Key {
            id: ID.to_owned(),
            held: true,
            active_from_unix_ms: from,
            listed,
            pinned,
            ..Key::default()
        };
        for (key, expected) in [
            (key(None, true, false), "staged"),
            (
                key(Some(0), true, false),
                "active from 1970-01-01T00:00:00Z",
            ),
            (
                key(Some(-62_135_596_800_000), true, true),
                "0001-01-01T00:00:00Z",
            ),
            (key(Some(0), false, false), "no longer listed"),
            (key(None, false, true), "pinned"),
        ] {
            let line = key_line(&ring(), &key);
            assert!(line.text.ends_with(expected), "{}", line.text);
            assert!(line.more.is_empty());
            let alone = key_line(&Ring::default(), &key);
            assert!(alone.text.ends_with("never confirmed"), "{}", alone.text);
        }
    }

    #[test]
    fn a_key_whose_secret_is_gone_is_an_error_with_what_to_do() {
        let key = Key {
            held: true,
            secret_gone: true,
            problem: "not-found".to_owned(),
            problem_text: "Barbican has no such secret".to_owned(),
            ..Key::default()
        };
        let line = key_line(&ring(), &key);
        assert_eq!(line.severity, Severity::Error);
        assert!(line.more.contains("restore the secret"), "{}", line.more);
    }

    #[test]
    fn an_old_write_key_and_a_container_in_trouble_stand_out() {
        let mut ring = ring();
        ring.problem = "denied".to_owned();
        ring.problem_text = "403; do this".to_owned();
        ring.warnings = vec!["x".to_owned()];
        let lines = lines(&ring);
        let bad: Vec<_> = lines
            .iter()
            .filter(|line| line.severity != Severity::Ok)
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[2].contains("91 days"), "{bad:?}");
    }
}
