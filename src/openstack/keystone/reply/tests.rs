use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(token: Option<&str>, body: &[u8]) -> Result<Session, ReplyError> {
    Session::from_reply(token, body, SystemTime::UNIX_EPOCH)
}

#[test]
fn a_reply_says_who_we_are_and_what_we_may() {
    let reply = json!({"token": {
        "methods": ["application_credential"],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2026-01-01T01:00:00.000000Z",
        "user": {"id": "uid", "name": "kms", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "pid", "name": "infra\u{1b}", "domain": {"id": "default"}},
        "roles": [{"id": "r", "name": "member"}, {"id": "q"}, 7],
        "catalog": null,
        "application_credential": {"name": "ac", "restricted": true, "access_rules": [
            {"service": "key-manager", "method": "GET", "path": "/v1/secrets/x/payload"}]},
    }});
    let session = read(Some("tok"), reply.to_string().as_bytes()).expect("a session");
    let account = session.account();
    assert_eq!(account.user.as_deref(), Some("kms"));
    assert_eq!(account.user_domain.as_deref(), Some("Default"));
    assert_eq!(account.project.as_deref(), Some("infra\\u{1b}"));
    assert_eq!(account.project_domain.as_deref(), Some("default"));
    assert_eq!(account.roles, ["member"]);
    let credential = account.application_credential.as_ref().expect("one");
    assert_eq!(credential.restricted, Some(true));
    let rules = credential.access_rules.as_ref().expect("rules");
    assert_eq!(rules[0].path, "/v1/secrets/x/payload");
    assert!(!format!("{session:?}").contains("tok\""));
}

#[test]
fn a_token_is_renewed_in_time() {
    for (lifetime, renewed_after) in [(3600, 2880), (100, 70), (60, 30), (10, 5), (0, 0)] {
        let lifetime = Duration::from_secs(lifetime);
        assert_eq!(
            lifetime.saturating_sub(margin(lifetime)).as_secs(),
            renewed_after
        );
    }
}

#[test]
fn the_lifetime_is_told_by_keystones_clock() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
    let lifetime = |token: Value| {
        let details: Details = serde_json::from_value(token).expect("details");
        details.lifetime(now).as_secs()
    };
    let start = "2026-01-01T00:00:00.000000Z";
    let end = "2026-01-01T01:00:00.000000Z";
    assert_eq!(
        lifetime(json!({"issued_at": start, "expires_at": end})),
        3600
    );
    assert_eq!(lifetime(json!({"expires_at": "2030-01-01T00:10:00Z"})), 600);
    assert_eq!(lifetime(json!({"expires_at": end})), 0);
    assert_eq!(lifetime(json!({"expires_at": "soon"})), 300);
    assert_eq!(lifetime(json!({})), 300);
    assert_eq!(
        lifetime(json!({"issued_at": start, "expires_at": "9999-01-01T00:00:00Z"})),
        365 * 24 * 3600
    );
}

#[test]
fn a_reply_without_token_or_sense_is_refused() {
    let read = |token, body: &str| read(token, body.as_bytes()).err();
    assert_eq!(read(None, "{\"token\": {}}"), Some(ReplyError::NoToken));
    assert_eq!(read(Some(""), "{\"token\": {}}"), Some(ReplyError::NoToken));
    assert!(matches!(
        read(Some("t"), "{"),
        Some(ReplyError::Json { .. })
    ));
    assert!(matches!(
        read(Some("t"), "[]"),
        Some(ReplyError::Json { .. })
    ));
    let deep = format!("{{\"token\": {{\"catalog\": {}", "[".repeat(100_000));
    assert!(matches!(
        read(Some("t"), &deep),
        Some(ReplyError::Json { .. })
    ));
    assert_eq!(read(Some("t"), "{\"token\": {}}"), None);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("9999-99-99T99:99:99Z")),
        Just(json!("2026-01-01T00:00:00.000000Z")),
        Just(json!("-009999-01-02T00:00:00Z")),
    ];
    let key = prop_oneof![
        "(catalog|roles|user|project|domain|name|id|issued_at|expires_at)",
        "(endpoints|type|interface|region|url|application_credential|access_rules)",
        "\\PC{0,6}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_a_reply_or_is_refused(token in any_json()) {
        let body = json!({"token": token}).to_string();
        if let Ok(session) = read(Some("t"), body.as_bytes()) {
            prop_assert!(session.renew_at <= session.ends_at);
        }
    }

    #[test]
    fn any_bytes_are_a_reply_or_are_refused(body: Vec<u8>) {
        let _ = read(Some("t"), &body);
    }
}
