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
