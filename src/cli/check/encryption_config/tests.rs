use super::*;

const GOOD: &str = include_str!("../../../../static-pod/encryption-config.yaml");

fn reading_of(text: &str) -> Reading {
    check(text.as_bytes())
}

/// The good file with one text replaced.
fn with(old: &str, new: &str) -> Findings {
    let changed = GOOD.replace(old, new);
    assert_ne!(changed, GOOD, "{old} is in the file");
    reading_of(&changed).findings
}

/// A file of entries.
fn file(entries: &str) -> Reading {
    reading_of(&format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{entries}"
    ))
}

/// A file with one provider behind kms.
fn provider(text: &str) -> Findings {
    with("  - identity: {}", &format!("  - {text}"))
}

fn with_resources(names: &str) -> Findings {
    with(
        "- resources:\n  - secrets\n",
        &format!("- resources: {names}\n"),
    )
}

/// The only fault of all.
fn only_wrong(findings: &Findings) -> &str {
    let [wrong] = findings.errors.as_slice() else {
        panic!("one fault: {findings:?}");
    };
    assert!(!wrong.fix.is_empty());
    &wrong.what
}

#[test]
fn the_shipped_files_are_right() {
    let reading = reading_of(GOOD);
    assert_eq!(reading.findings.errors, []);
    assert_eq!(reading.findings.warnings, [""; 0]);
    assert_eq!(reading.sockets, ["/run/barbican-kms/kms.sock"]);
    assert_eq!(reading.summary, "secrets, at /run/barbican-kms/kms.sock");
    let first_step = include_str!("../../../../static-pod/encryption-config-read.yaml");
    let findings = reading_of(first_step).findings;
    assert_eq!(findings.errors, []);
    assert!(
        findings.warnings[0].contains("NOT encrypted"),
        "{findings:?}"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_fault_is_named_by_its_path() {
    let kms = "resources[0].providers[0].kms";
    for (old, new, found) in [
        ("EncryptionConfiguration\n", "Pod\n", "kind: \"Pod\", not"),
        ("kind: EncryptionConfiguration\n", "", "kind: missing"),
        (
            "apiserver.config.k8s.io/v1",
            "v1",
            "apiVersion: there is no",
        ),
        ("apiserver.config.k8s.io/v1", "''", "apiVersion: missing"),
        (
            "EncryptionConfiguration\n",
            "EncryptionConfig\n",
            "apiVersion: there is no",
        ),
        (
            "kind:",
            "metadata: {}\nkind:",
            "metadata: there is no such field",
        ),
        (
            "  providers:",
            "  provider: 1\n  providers:",
            "resources[0].provider: there is no",
        ),
        ("  - secrets\n", "", "resources[0].resources: at least one"),
        (
            "  - secrets\n",
            "  - 1\n",
            "resources[0].resources[0]: a number, not a text",
        ),
        (
            "  - kms:",
            "  - kmsv2:",
            "resources[0].providers[0].kmsv2: there is no such field",
        ),
        (
            "      apiVersion: v2\n",
            "",
            "{kms}.apiVersion: missing, which means v1",
        ),
        (
            "apiVersion: v2",
            "apiVersion: v1",
            "{kms}.apiVersion: v1 is off",
        ),
        (
            "apiVersion: v2",
            "apiVersion: v3",
            "{kms}.apiVersion: \"v3\" is neither",
        ),
        (
            "apiVersion: v2",
            "apiVersion: 2",
            "{kms}.apiVersion: a number, not a text",
        ),
        (
            "timeout: 3s",
            "timeuot: 3s",
            "{kms}.timeuot: there is no such field",
        ),
        ("timeout: 3s", "timeout: 0s", "{kms}.timeout: zero"),
        (
            "timeout: 3s",
            "timeout: -3s",
            "{kms}.timeout: \"-3s\" is no positive",
        ),
        ("timeout: 3s", "timeout: 3", "{kms}.timeout: 3 is a number"),
        (
            "timeout: 3s",
            "timeout: PT3S",
            "{kms}.timeout: \"PT3S\" is no",
        ),
        (
            "timeout: 3s",
            "timeout: [3s]",
            "{kms}.timeout: a list, not a duration",
        ),
        (
            "timeout: 3s",
            "cachesize: 1000",
            "{kms}.cachesize: not supported in v2",
        ),
        (
            "timeout: 3s",
            "cachesize: 1.5",
            "{kms}.cachesize: not a whole number",
        ),
        (
            "name: barbican\n",
            "name: 'a:b'\n",
            "{kms}.name: \"a:b\" has a colon",
        ),
        ("      name: barbican\n", "", "{kms}.name: missing"),
        ("unix:///run", "unix://run", "is relative"),
        (
            "unix:///run",
            "/run",
            "{kms}.endpoint: \"/run/barbican-kms/kms.sock\": its scheme is not unix",
        ),
        (
            "      endpoint: unix:///run/barbican-kms/kms.sock\n",
            "",
            "{kms}.endpoint: missing",
        ),
    ] {
        let findings = with(old, new);
        let found = found.replace("{kms}", kms);
        let wrong = only_wrong(&findings);
        assert!(wrong.contains(&found), "{found}: {wrong}");
    }
}

#[test]
fn a_provider_is_one_of_five_and_alone() {
    let path = "resources[0].providers[1]";
    for (text, found) in [
        ("identity:", ": identity without a value"),
        ("identity: ''", ".identity: a text, not a mapping"),
        ("identity: {a: 1}", ".identity.a: there is no such field"),
        ("{}", ": there is no provider in it"),
        ("aescbc: null", ": there is no provider in it"),
        (
            "{identity: {}, aescbc: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}",
            ": more than one provider",
        ),
        ("identity", ": a text, not a mapping"),
        ("aescbc: {}", ".aescbc.keys: at least one"),
        ("aescbc: {keys: {}}", ".aescbc.keys: a mapping, not a list"),
        (
            "aescbc: {keys: [{name: a}]}",
            ".aescbc.keys[0].secret: missing",
        ),
        (
            "aescbc: {keys: [{secret: AAAAAAAAAAAAAAAAAAAAAA==}]}",
            ".aescbc.keys[0].name: missing",
        ),
        (
            "aescbc: {keys: [{name: a, secret: b c}]}",
            ".aescbc.keys[0].secret: not base64",
        ),
        (
            "aesgcm: {keys: [{name: a, secret: AAAA}]}",
            ".aesgcm.keys[0].secret: 3 bytes; a key of aesgcm has 16 or 24 or 32",
        ),
        (
            "secretbox: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}",
            ".secretbox.keys[0].secret: 16 bytes; a key of secretbox has 32",
        ),
        (
            "aescbc: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==, algorithm: x}]}",
            ".aescbc.keys[0].algorithm: there is no",
        ),
    ] {
        let findings = provider(text);
        let wrong = only_wrong(&findings);
        assert!(wrong.starts_with(&format!("{path}{found}")), "{wrong}");
    }
    for text in ["aescbc", "aesgcm", "secretbox"] {
        let findings = provider(&format!(
            "{text}: {{keys: [{{name: a, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}}]}}"
        ));
        assert_eq!(findings.errors, [], "{text}");
    }
}

#[test]
fn resources_are_named_as_kube_apiserver_wants_them() {
    for (names, found) in [
        (
            "[Secrets]",
            "[0]: \"Secrets\": a resource name has no capital letters",
        ),
        ("['*']", "[0]: \"*\": a star alone"),
        ("[serviceipallocations]", "no REST API"),
        ("[events.events.k8s.io]", "stored in the core group"),
        ("[ingresses.extensions]", "has been removed"),
        ("['secrets.*']", "across groups"),
        ("[secrets, secrets]", ".resources: the same resource"),
        ("[secrets, '*.']", ".resources: a wildcard overlaps"),
        (
            "[deployments.apps, '*.*']",
            ".resources: a wildcard overlaps",
        ),
        ("secrets", ".resources: a text, not a list"),
    ] {
        let findings = with_resources(names);
        let wrong = only_wrong(&findings);
        assert!(wrong.contains(found), "{wrong}");
    }
    for names in ["[secrets, '*.apps']", "['*.*']", "[secrets.v1, events, '']"] {
        let findings = with_resources(names);
        assert_eq!(findings.errors, [], "{names}");
    }
}

#[test]
fn what_an_earlier_wildcard_masks_is_refused() {
    let entries = |first: &str, second: &str| {
        file(&format!(
            "- resources: ['{first}']\n  providers: [{{identity: {{}}}}]\n\
             - resources: ['{second}']\n  providers: [{{identity: {{}}}}]\n"
        ))
    };
    for (first, second) in [
        ("*.", "secrets"),
        ("*.*", "deployments.apps"),
        ("*.apps", "*.apps"),
        ("*.*", "*.*"),
    ] {
        let findings = entries(first, second).findings;
        let wrong = only_wrong(&findings);
        let found =
            format!("resources[1].resources[0]: \"{second}\" is masked by the earlier \"{first}\"");
        assert_eq!(wrong, found);
    }
    for (first, second) in [("secrets", "*."), ("secrets", "secrets"), ("*.apps", "*.*")] {
        assert_eq!(
            entries(first, second).findings.errors,
            [],
            "{first} {second}"
        );
    }
}

#[test]
fn a_name_in_two_providers_is_found() {
    let entry = GOOD.split_once("resources:\n").expect("a list").1;
    let twice = format!("{GOOD}{}", entry.replace("secrets", "configmaps"));
    let findings = reading_of(&twice).findings;
    assert_eq!(
        only_wrong(&findings),
        "resources[1].providers[0].kms.name: \"barbican\" is the name of an earlier provider"
    );
}

#[test]
fn what_works_and_is_unwise_is_doubted() {
    let kms = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///run/k'}}";
    let none = "{identity: {}}";
    for (entries, found) in [
        (
            format!("- {{resources: [secrets], providers: [{none}]}}"),
            "no kms provider",
        ),
        (
            format!("- {{resources: [configmaps], providers: [{kms}]}}"),
            "Secrets are not among",
        ),
        (
            format!("- {{resources: [secrets.v1], providers: [{kms}]}}"),
            "Secrets are not among",
        ),
        (
            format!("- {{resources: [secrets], providers: [{none}, {kms}]}}"),
            "NOT encrypted",
        ),
        (
            format!(
                "- {{resources: [secrets], providers: [{none}]}}\n- {{resources: ['*.*'], providers: [{kms}]}}"
            ),
            "resources[0].providers[0]: Secrets are written by this identity",
        ),
        (
            format!(
                "- {{resources: [secrets], providers: [{{aescbc: {{keys: [{{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}}]}}}}, {kms}]}}"
            ),
            "aescbc comes first",
        ),
        (
            format!(
                "- {{resources: [secrets], providers: [{}]}}",
                kms.replace("/run/k", "/@k")
            ),
            "an abstract socket",
        ),
    ] {
        let findings = file(&entries).findings;
        assert_eq!(findings.errors, [], "{entries}");
        assert!(
            findings.warnings.iter().any(|doubt| doubt.contains(found)),
            "{found}: {findings:?}"
        );
    }
    let first = format!(
        "- {{resources: [events], providers: [{none}]}}\n- {{resources: ['*.*'], providers: [{kms}]}}"
    );
    assert_eq!(file(&first).findings.warnings, [""; 0]);
}

#[test]
fn the_go_plugins_own_guide_is_outdated_and_works() {
    let old = GOOD
        .replace("EncryptionConfiguration", "EncryptionConfig")
        .replace("apiserver.config.k8s.io/v1", "v1");
    let reading = reading_of(&old);
    assert_eq!(reading.findings.errors, []);
    assert!(reading.findings.warnings[0].contains("outdated"));
    assert_eq!(reading.sockets, ["/run/barbican-kms/kms.sock"]);
}

#[test]
fn what_begins_with_a_brace_is_json() {
    let entry = r#"{"resources": ["secrets"], "providers": [{"identity": {}}]}"#;
    let json = |resources: &str| {
        reading_of(&format!(
            r#" {{"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", {resources}}}"#
        ))
    };
    assert_eq!(
        json(&format!(r#""resources": [{entry}]"#)).findings.errors,
        []
    );
    let twice = json(&format!(r#""resources": [], "resources": [{entry}]"#)).findings;
    assert!(
        only_wrong(&twice).contains("a key occurs twice"),
        "{twice:?}"
    );
    let yaml = reading_of("{kind: EncryptionConfiguration}").findings;
    assert!(only_wrong(&yaml).starts_with("not valid JSON"), "{yaml:?}");
}

#[test]
fn only_the_first_document_is_read_and_strictly() {
    let findings = reading_of(&format!("{GOOD}---\nkind: [\n")).findings;
    assert_eq!(findings.errors, []);
    assert!(
        findings.warnings[0].contains("only the first"),
        "{findings:?}"
    );
    for (text, found) in [
        (format!("---\n---\n{GOOD}"), "the file is nothing"),
        (String::new(), "the file is empty"),
        ("# none\n".to_owned(), "the file is nothing"),
        (format!("%YAML 1.2\n---\n{GOOD}"), "YAML 1.1"),
        (format!("{GOOD}\t\n"), "there is a tab"),
        (
            format!("{GOOD}kind: EncryptionConfiguration\n"),
            "a key occurs twice",
        ),
        (
            GOOD.replace("      timeout: 3s\n", "      <<: {name: a}\n"),
            "a key occurs twice",
        ),
        (
            GOOD.replace("timeout: 3s", "timeout: .inf"),
            "a finite number",
        ),
        (format!("# \u{7}\n{GOOD}"), "a control character"),
        (format!("# \n\u{feff}{GOOD}"), "a byte order mark"),
    ] {
        let findings = reading_of(&text).findings;
        let wrong = only_wrong(&findings);
        assert!(wrong.contains(found), "{found}: {wrong}");
    }
}

#[test]
fn a_text_may_be_in_utf_16_and_not_in_latin_1() {
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(GOOD.encode_utf16().flat_map(u16::to_le_bytes));
    assert_eq!(check(&bytes).findings.errors, []);
    bytes.pop();
    assert!(only_wrong(&check(&bytes).findings).contains("illegal UTF-8"));
    let latin = [b"# f\xfcr\n", GOOD.as_bytes()].concat();
    assert!(only_wrong(&check(&latin).findings).contains("illegal UTF-8"));
    assert_eq!(
        reading_of(&format!("\u{feff}{}", GOOD.replace('\n', "\r\n")))
            .findings
            .errors,
        []
    );
}

#[test]
fn no_message_quotes_a_key() {
    let secret = "c2VjcmV0IGlzIHNlY3VyZQ==";
    for text in [
        format!("aescbc: {{keys: [{{name: {secret}, secret: {secret}AA}}]}}"),
        format!("aescbc: {{keys: [{{name: a, {secret}: b}}]}}"),
        format!("aescbc: {secret}"),
        format!("kms: {{apiVersion: {secret}, name: 'a:', endpoint: {secret}, timeout: {secret}}}"),
    ] {
        let findings = provider(&text);
        assert!(!findings.errors.is_empty(), "{text}");
        assert!(!format!("{findings:?}").contains("c2Vj"), "{findings:?}");
    }
}

#[test]
fn anything_may_stand_in_the_file() {
    for text in [
        "1",
        "[]",
        "resources: 1",
        "kind: [",
        "{\"a\": ",
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [1]",
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [], providers: {}}]",
    ] {
        assert!(!reading_of(text).findings.errors.is_empty(), "{text}");
    }
}

#[test]
fn what_follows_the_end_of_the_document_is_not_read() {
    let file = |end: &str| [GOOD.as_bytes(), end.as_bytes(), b"# \xe9\n"].concat();
    assert_eq!(check(&file("...\n")).findings.errors, []);
    let wrong = check(&file("")).findings.errors;
    assert!(wrong[0].what.contains("illegal UTF-8"), "{wrong:?}");
}
