//! The TOML reader: types, unknown names, places, and that nothing is quoted.

use proptest::prelude::*;

use super::*;

fn read_text(text: &str) -> Result<Raw, Diagnostic> {
    read(Path::new("cloud.toml"), text.as_bytes(), &mut Vec::new())
}

fn refusal(text: &str) -> String {
    without_file(&read_text(text).expect_err(text))
}

fn without_file(error: &Diagnostic) -> String {
    let text = error.to_string();
    let rest = text.strip_prefix("cloud.toml:");
    rest.expect("the file is named").to_owned()
}

#[test]
fn every_type_is_read() {
    let raw = read_text(
        "[Global]\nusername = 'u#;'\nuse-clouds = true\ntls-insecure = false\n\
         [KeyManager]\nkey-id = \"\"\"\nk\"\"\"\ndecrypt-key-ids = [\"a\",\n  'b,c',]\n\
         [LoadBalancer]\nanything = 1979-05-27\n[[LoadBalancerClass.x]]\ny.z = 1\n",
    )
    .expect("valid");
    let value = |key| raw.get(key).map(|setting| setting.value.clone());
    assert_eq!(value(Key::Username), Some(Value::Text("u#;".to_owned())));
    assert_eq!(value(Key::UseClouds), Some(Value::Flag(true)));
    assert_eq!(value(Key::TlsInsecure), Some(Value::Flag(false)));
    assert_eq!(value(Key::KeyId), Some(Value::Text("k".to_owned())));
    let list = ["a", "b,c"].map(str::to_owned).to_vec();
    assert_eq!(value(Key::DecryptKeyIds), Some(Value::List(list)));
}

#[test]
fn settings_know_their_places() {
    let raw = read_text("\u{FEFF}[Global]\n  username = \"é\"\n").expect("valid");
    let location = &raw.get(Key::Username).expect("set").location;
    assert_eq!(location.to_string(), "cloud.toml:2:14: [Global] username");
}

#[test]
fn another_type_is_refused_with_how_to_write_it() {
    for (text, expected) in [
        (
            "[Global]\ntenant-id = 12345",
            "2:13: [Global] tenant-id: it must be a string, but is a number; write it in double \
             quotes",
        ),
        (
            "[Global]\nuse-clouds = \"true\"",
            "2:14: [Global] use-clouds: it must be true or false, but is a string; write true or \
             false \
             without quotes",
        ),
        (
            "[Global]\ntls-insecure = 1",
            "2:16: [Global] tls-insecure: it must be true or false, but is a number; write true or \
             false without quotes",
        ),
        (
            "[KeyManager]\nrevalidate-interval = 300",
            "2:23: [KeyManager] revalidate-interval: it must be a string, but is a number; write \
             it in \
             double quotes",
        ),
        (
            "[KeyManager]\ndecrypt-key-ids = \"a,b\"",
            "2:19: [KeyManager] decrypt-key-ids: it must be an array of strings, but is a string; \
             write \
             decrypt-key-ids = [\"UUID\", \"UUID\"]",
        ),
        (
            "[KeyManager]\ndecrypt-key-ids = [\"a\", 1]",
            "2:25: [KeyManager] decrypt-key-ids: it must be an array of strings, but is a number; \
             write decrypt-key-ids = [\"UUID\", \"UUID\"]",
        ),
        (
            "[Global]\nos-endpoint-type = \" \"",
            "2:20: [Global] os-endpoint-type: it must not be empty; remove the key instead",
        ),
        (
            "Global = 1",
            "1:1: Global must be a section; write `[Global]` on a line of its own",
        ),
        (
            "[[Global]]",
            "1:3: Global must be a section; write `[Global]` on a line of its own",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn unknown_names_are_refused_with_what_was_meant() {
    for (text, expected) in [
        (
            "[Global]\nproject-id = \"x\"",
            "2:1: [Global] has no key project-id; did you mean [Global] tenant-id?",
        ),
        (
            "[Global]\nUsername = \"x\"",
            "2:1: [Global] has no key Username; did you mean [Global] username?",
        ),
        (
            "[Global]\nfrobnicate = 1",
            "2:1: [Global] has no key frobnicate; remove it",
        ),
        (
            "[Global]\nkey-id = \"x\"",
            "2:1: [Global] has no key key-id; did you mean [KeyManager] key-id?",
        ),
        ("[global]", "1:2: [global] must be written [Global]"),
        (
            "username = \"x\"",
            "1:1: username is outside every section; write it below [Global]",
        ),
        (
            "x = 1",
            "1:1: x is outside every section; write it below [Global] or [KeyManager]",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn the_first_error_of_the_file_is_reported() {
    let text = "[KeyManager]\nzzz = 1\n[Global]\naaa = 1";
    assert!(refusal(text).starts_with("2:1: "), "{}", refusal(text));
}

#[test]
fn syntax_errors_have_a_place_and_quote_nothing() {
    for (text, place) in [
        ("[Global]\npassword = hunter2", "2:12: "),
        ("[Global]\npassword = \"hunter2", "2:20: "),
        ("[Global]\npassword = \"hunter2\\q\"", "2:21: "),
        ("[Global]\npassword = 'hunter2' x", "2:22: "),
        ("[Global]\npassword = 'a'\npassword = 'hunter2'", "3:1: "),
        ("[Global]\npassword", "2:"),
        ("hunter2", "1:"),
        ("[hunter2", "1:"),
        ("[Global]\npassword = 0hunter2", "2:"),
    ] {
        let error = read_text(text).expect_err(text);
        let printed = format!("{} {error:?}", without_file(&error));
        assert!(printed.starts_with(place), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(error.to_string().lines().count() == 1, "{error}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_place() {
    let error = read(
        Path::new("cloud.toml"),
        b"[Global]\nx = \"\xFF\"",
        &mut Vec::new(),
    );
    let error = without_file(&error.expect_err("refused"));
    assert!(error.starts_with("2:6: illegal UTF-8"), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("[Global]\nx = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(refusal(&text).contains("not valid TOML"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = read_text(&text);
    }

    #[test]
    fn any_arrangement_of_the_grammar_is_read_or_refused(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("[Global]\n"), Just("[KeyManager]\n"), Just("["), Just("]"), Just("\""),
                Just("\\"), Just("\n"), Just("="), Just("#"), Just("."), Just(" "),
                Just("password"), Just("'hunter2'"), Just("1"), Just("'"), Just("{"), Just("}"),
                Just(","), Just("é"),
            ],
            0..30,
        )
    ) {
        if let Err(error) = read_text(&pieces.concat()) {
            // A key may be called so, and then an error may name it.
            let text = error.to_string();
            let is_name = text.contains(" has no key ") || text.contains(" is outside every ");
            prop_assert!(is_name || !text.contains("hunter2"), "{}", text);
        }
    }
}
