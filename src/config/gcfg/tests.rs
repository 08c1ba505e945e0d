//! The reader against the real gcfg's answers, and the warnings that it adds.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;

/// The names that the Go plugin's structs have for our keys.
fn go_name(key: Key) -> Option<&'static str> {
    Some(match key {
        Key::AuthUrl => "AuthURL",
        Key::Username => "Username",
        Key::UserId => "UserID",
        Key::Password => "Password",
        Key::TenantId => "TenantID",
        Key::TenantName => "TenantName",
        Key::DomainId => "DomainID",
        Key::DomainName => "DomainName",
        Key::TenantDomainId => "TenantDomainID",
        Key::TenantDomainName => "TenantDomainName",
        Key::UserDomainId => "UserDomainID",
        Key::UserDomainName => "UserDomainName",
        Key::TrustId => "TrustID",
        Key::TrusteeId => "TrusteeID",
        Key::TrusteePassword => "TrusteePassword",
        Key::CredentialId => "ApplicationCredentialID",
        Key::CredentialName => "ApplicationCredentialName",
        Key::CredentialSecret => "ApplicationCredentialSecret",
        Key::Token => "Token",
        Key::Region => "Region",
        Key::EndpointType => "EndpointType",
        Key::CaFile => "CAFile",
        Key::CaFileContents => "CAFileContents",
        Key::CertFile => "CertFile",
        Key::KeyFile => "KeyFile",
        Key::TlsInsecure => "TLSInsecure",
        Key::UseClouds => "UseClouds",
        Key::CloudsFile => "CloudsFile",
        Key::Cloud => "Cloud",
        Key::KeyId => "KeyID",
        Key::DecryptKeyIds
        | Key::KeyIdSuffix
        | Key::RequireAuthentication
        | Key::RevalidateInterval
        | Key::MaxCacheAge
        | Key::KeyManagerEndpoint
        | Key::KeyContainer
        | Key::KeyContainerOwner
        | Key::DefaultDomain => return None,
    })
}

/// What Go's structs would hold, as the vectors write it.
fn as_go(raw: &Raw) -> Json {
    let mut sections: Map<String, Json> = Map::new();
    for section in Section::ALL {
        let fields: Map<String, Json> = Key::all()
            .filter(|key| key.section() == Some(section))
            .filter_map(|key| {
                let value = match &raw.get(key)?.value {
                    raw::Value::Text(text) => json!(text),
                    raw::Value::Flag(true) => json!(true),
                    raw::Value::Flag(false) | raw::Value::List(_) => return None,
                };
                Some((go_name(key)?.to_owned(), value))
            })
            .collect();
        sections.insert(section.name().to_owned(), fields.into());
    }
    sections.into()
}

fn read_text(text: &str) -> (Result<Raw, Diagnostic>, Vec<String>) {
    let mut warnings = Vec::new();
    let raw = read(Path::new("cloud.conf"), text.as_bytes(), &mut warnings);
    (raw, warnings.iter().map(ToString::to_string).collect())
}

fn without_file(error: &Diagnostic) -> String {
    let text = error.to_string();
    let rest = text.strip_prefix("cloud.conf:");
    rest.expect("the file is named").to_owned()
}

/// Holds the reader against every vector of a file and returns their number.
fn check_vectors(file: &Path) -> usize {
    let lines = std::fs::File::open(file)
        .and_then(std::io::read_to_string)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for line in lines.lines() {
        check_vector(&serde_json::from_str(line).expect("a vector is JSON"));
    }
    lines.lines().count()
}

fn check_vector(vector: &Json) {
    let text = vector["in"].as_str().expect("an input");
    let (raw, _) = read_text(text);
    if let Some(rest) = text.strip_prefix('\u{FEFF}') {
        // The one deviation: Go refuses every file with a byte-order mark.
        let (without, _) = read_text(rest);
        let [raw, without] = [raw, without].map(|raw| raw.map(|raw| as_go(&raw)));
        assert_eq!(raw, without, "{text:?}");
        return;
    }
    match (raw, vector["err"].as_str()) {
        (Ok(raw), None) => assert_eq!(as_go(&raw), vector["ok"], "{text:?}"),
        (Ok(raw), Some(error)) => panic!("{text:?}: {raw:?} instead of {error}"),
        (Err(error), None) => panic!("{text:?}: {error}"),
        (Err(error), Some(expected)) => {
            let error = without_file(&error);
            let expected = expected.split(" (and ").next().unwrap_or_default();
            // Errors about the type of a value have no place in Go, and quote it.
            let has_place = expected.starts_with(|first: char| first.is_ascii_digit());
            assert!(
                !has_place || error.starts_with(expected),
                "{text:?}: {error} instead of {expected}"
            );
            if let Some((_, variable)) = expected.rsplit_once(", variable ") {
                let variable = variable.trim_matches('"');
                let key = Key::all().find(|key| equal_fold(variable, key.name()));
                let name = key.unwrap_or_else(|| panic!("{expected}")).name();
                assert!(error.contains(name), "{error} without {name}");
            }
        }
    }
}

#[test]
fn gcfg_vectors_of_our_own_agree() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gcfg.jsonl");
    assert!(check_vectors(&file) >= 50);
}

#[test]
fn gcfg_vectors_of_the_go_plugin_agree() {
    let named = std::env::var_os("GCFG_VECTORS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gcfg_go.jsonl");
    assert!(check_vectors(&named.unwrap_or(own)) > 0);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let (raw, warnings) = read_text("\u{FEFF}[Global]\nregion=r");
    assert_eq!(as_go(&raw.expect("read"))["Global"], json!({"Region": "r"}));
    assert_eq!(warnings, [""; 0]);
    let (raw, _) = read_text("\u{FEFF}[x]]");
    let error = without_file(&raw.expect_err("refused"));
    assert!(error.starts_with("1:4: "), "{error}");
}

#[test]
fn a_comment_without_a_blank_before_it_is_warned_about() {
    for (line, warned) in [
        ("password=abc#def", true),
        ("password=abc;def", true),
        ("password=#abc", true),
        ("password=\"a\"#b", true),
        ("password=abc # def", false),
        ("password=abc\t;def", false),
        ("password= #", false),
        ("password=\"a#b\"", false),
        ("foreign=a#b", false),
    ] {
        let (_, warnings) = read_text(&format!("[Global]\n{line}"));
        let found = warnings
            .iter()
            .any(|text| text.contains("a comment begins"));
        assert_eq!(found, warned, "{line}: {warnings:?}");
        let quoted = warnings.iter().any(|text| text.contains("abc"));
        assert!(!quoted, "a warning quotes the value: {warnings:?}");
    }
}

#[test]
fn a_value_wholly_in_single_quotes_is_warned_about() {
    let (_, warnings) = read_text("[Global]\npassword='a b'\nregion='r\nusername='");
    assert_eq!(
        warnings,
        [
            "cloud.conf:2:10: [Global] password: the single quotes are part of the value; write \
             double quotes"
        ]
    );
}

#[test]
fn an_unknown_key_is_warned_about_with_what_was_meant() {
    let (_, warnings) = read_text(
        "[Global]\nproject-id=x\nfrobnicate=1\n[Global \"x\"]\nproject-id=x\n[Other]\nproject-id=x\
         \n[KeyManager]\nkeyid=x",
    );
    assert_eq!(
        warnings,
        [
            "cloud.conf:2:1: [Global] project-id: there is no such key, it is ignored; did you mean \
             [Global] tenant-id?",
            "cloud.conf:3:1: [Global] frobnicate: there is no such key, it is ignored",
            "cloud.conf:9:1: [KeyManager] keyid: there is no such key, it is ignored; did you mean \
             [KeyManager] key-id?",
        ]
    );
}

#[test]
fn the_rest_of_a_broken_line_is_not_taken_for_a_name_that_may_be_shown() {
    let (_, warnings) = read_text("[Global]\npassword=\"x\"\nhunter2\naHVudGVyMg==\n");
    assert_eq!(
        warnings,
        [
            "cloud.conf:3:1: [Global]: there is no such key, it is ignored",
            "cloud.conf:4:1: [Global]: there is no such key, it is ignored",
        ]
    );
}

#[test]
fn a_section_that_is_called_nearly_like_ours_is_warned_about() {
    let (_, warnings) = read_text("[key-manager]\n[LoadBalancer]\n[global]\n[Globals \"x\"]");
    assert_eq!(
        warnings,
        ["cloud.conf:1:2: [key-manager]: the section is ignored; did you mean [KeyManager]?"]
    );
}

#[test]
fn an_error_quotes_no_value() {
    for text in [
        "[Global]\npassword=\"hunter2",
        "[Global]\npassword=hunter2\\",
        "[Global]\npassword=\"hunter2\\x\"",
        "[Global]\nuse-clouds=hunter2",
        "[Global]\nos-endpoint-type=hunter2 hunter2",
        "[Global]\npassword \"hunter2\"",
        "[Global]\npassword: hunter2",
        "[Global]\npassword=x\n_hunter2",
    ] {
        let (raw, warnings) = read_text(text);
        let error = raw.expect_err(text);
        let printed = format!("{error} {error:?} {warnings:?}");
        assert!(!printed.contains("hunter"), "{printed}");
    }
}

#[test]
fn values_do_not_show_in_debug_output() {
    let (raw, _) = read_text("[Global]\npassword=hunter2\n[KeyManager]\ndecrypt-key-ids=hunter2");
    let printed = format!("{:?}", raw.expect("read"));
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn a_list_is_separated_by_commas() {
    let (raw, _) = read_text("[KeyManager]\ndecrypt-key-ids = a, b,c ,\"d\"");
    let raw = raw.expect("read");
    let expected = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    assert_eq!(
        raw.get(Key::DecryptKeyIds).expect("set").value,
        raw::Value::List(expected)
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let mut warnings = Vec::new();
        let _ = read(Path::new("f"), &bytes, &mut warnings);
    }

    #[test]
    fn any_arrangement_of_the_grammar_is_read_or_refused(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("[Global]\n"), Just("["), Just("]"), Just("\""), Just("\\"), Just("\n"),
                Just("\r"), Just("="), Just("#"), Just(";"), Just(" "), Just("password"),
                Just("use-clouds"), Just("é"), Just("'"), Just("_"), Just("\0"), Just("\u{FEFF}"),
            ],
            0..40,
        )
    ) {
        let text = pieces.concat();
        let (raw, _) = read_text(&text);
        if let Err(error) = raw {
            let lines = text.split('\n').count();
            let error = without_file(&error);
            let numbers: Vec<usize> = error
                .split(':')
                .take(2)
                .map(|number| number.parse().expect("a number"))
                .collect();
            prop_assert!((1..=lines).contains(&numbers[0]) && numbers[1] >= 1, "{}", error);
        }
    }

    #[test]
    fn a_quoted_value_is_what_was_quoted(value in "[^\0\r\n\\x{FEFF}]*") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let (raw, warnings) = read_text(&format!("[Global]\npassword = \"{quoted}\" ; comment"));
        let raw = raw.expect("valid");
        let read = raw.get(Key::Password).map(|setting| setting.value.clone());
        let expected = (!value.is_empty()).then_some(raw::Value::Text(value));
        prop_assert_eq!(read, expected);
        prop_assert!(warnings.is_empty());
    }
}
