use proptest::prelude::*;

use super::*;

fn shown(secrets: &[&str], body: &str) -> String {
    Redactor::new(secrets.iter().copied())
        .excerpt_of_body(body.as_bytes(), Some("gAAAAAtoken"))
        .map(|excerpt| excerpt.to_string())
        .unwrap_or_default()
}

#[test]
fn the_servers_own_words_are_found() {
    let keystone = r#"{"error": {"code": 401, "message": "Wrong password", "title": "t"}}"#;
    let barbican = r#"{"code": 403, "title": "Forbidden", "description": "Not allowed"}"#;
    assert_eq!(shown(&[], keystone), "Wrong password");
    assert_eq!(shown(&[], barbican), "Not allowed");
    assert_eq!(shown(&[], "plain\n text"), "plain text");
    assert_eq!(
        shown(&[], "<html><title>502 Bad Gateway</title><hr></html>"),
        "502 Bad Gateway"
    );
    assert_eq!(shown(&[], ""), "");
    assert_eq!(shown(&[], r#"{"error": "x"}"#), r#"{"error": "x"}"#);
}

#[test]
fn keystones_errors_are_told_from_those_of_others() {
    let of_keystone = |body: &str| is_keystones(body.as_bytes(), StatusCode::NOT_FOUND);
    assert!(of_keystone(
        r#"{"error":{"code":404,"message":"Could not find","title":"Not Found"}}"#
    ));
    for other in [
        "",
        "<html><h1>404 Not Found</h1></html>",
        "404 page not found",
        r#"{"error": "not found"}"#,
        r#"{"error": {"code": 404, "message": "no such route", "status": "NOT_FOUND"}}"#,
        r#"{"error": {"code": 401, "message": "m", "title": "Unauthorized"}}"#,
        r#"{"code": 404, "title": "Not Found", "description": "Barbican's"}"#,
    ] {
        assert!(!of_keystone(other), "{other}");
    }
}

#[test]
fn barbicans_errors_are_told_from_those_of_others() {
    let of_barbican =
        |body: &str| responder(body.as_bytes(), StatusCode::NOT_FOUND) == Responder::Barbican;
    assert!(of_barbican(
        r#"{"code": 404, "title": "Not Found", "description": "Secret not found."}"#
    ));
    for other in [
        "",
        "default backend - 404",
        "<html><h1>404 Not Found</h1></html>",
        r#"{"code": 404, "title": "Not Found", "description": null}"#,
        r#"{"code": 404, "message": "no route"}"#,
        r#"{"code": 403, "title": "Forbidden", "description": "Not allowed"}"#,
        r#"{"error": {"code": 404, "message": "m", "title": "Not Found"}}"#,
    ] {
        assert!(!of_barbican(other), "{other}");
    }
    for (body, expected) in [
        (
            r#"{"code": 404, "title": "Not Found", "description": null}"#,
            Responder::BarbicansRouter,
        ),
        (
            r#"{"code": 404, "title": "Not Found", "description": ""}"#,
            Responder::BarbicansRouter,
        ),
        (r#"{"code": 404, "title": "Not Found"}"#, Responder::Other),
        (
            r#"{"code": 403, "title": "Forbidden", "description": ""}"#,
            Responder::Other,
        ),
    ] {
        let said = responder(body.as_bytes(), StatusCode::NOT_FOUND);
        assert_eq!(said, expected, "{body}");
    }
}

#[test]
fn secrets_that_a_server_sends_back_are_removed() {
    assert_eq!(
        shown(&["hunter22"], "user u with hunter22x is wrong"),
        "user u with (redacted)x is wrong"
    );
    assert_eq!(shown(&["q\"uote\\d"], r#"<body>q"uote\d"#), "(redacted)");
    assert_eq!(
        shown(&["q\"uote\\d"], r#"got {"password":"q\"uote\\d"}"#),
        r#"got {"password":"(redacted)"}"#
    );
    assert_eq!(shown(&[], "the gAAAAAtoken"), "the (redacted)");
}

#[test]
fn a_short_secret_is_removed_as_a_word_only() {
    assert_eq!(
        shown(&["p"], "the password 'p' is wrong"),
        "the password '(redacted)' is wrong"
    );
}

#[test]
fn nothing_that_could_forge_a_log_line_is_left() {
    assert_eq!(
        shown(&[], "a\r\nERROR b\u{1b}[31m\u{202e}c\0"),
        "a ERROR b\\u{1b}[31m\\u{202e}c\\u{0}"
    );
    assert_eq!(shown(&[], &"x".repeat(5000)).chars().count(), 301);
}

proptest! {
    #[test]
    fn no_body_makes_a_secret_or_a_control_character_appear(
        before: Vec<u8>, after: Vec<u8>, secret in "[a-z\"\\\\é]{6,20}",
    ) {
        let redactor = Redactor::new([secret.as_str()]);
        let body = [&before, secret.as_bytes(), &after].concat();
        if let Some(excerpt) = redactor.excerpt_of_body(&body, None) {
            let shown = excerpt.to_string();
            prop_assert!(!shown.contains(&secret));
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
