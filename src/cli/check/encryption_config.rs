//! kube-apiserver's EncryptionConfiguration: the classic mistakes.
//!
//! Pure; `check` reads the file. kube-apiserver decodes it strictly and does not start
//! with a wrong one, or worse, starts and writes Secrets in clear.

use std::collections::BTreeSet;

use serde_json::Value;

use super::findings::{Findings, list, text};

const API_VERSION: &str = "apiserver.config.k8s.io/v1";

const PROVIDERS: [&str; 5] = ["kms", "aescbc", "aesgcm", "secretbox", "identity"];

const KMS_FIELDS: [&str; 5] = ["apiVersion", "name", "endpoint", "timeout", "cachesize"];

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) findings: Findings,
    /// The socket of each KMS provider.
    pub(super) sockets: Vec<String>,
    /// What is encrypted, in words.
    pub(super) summary: String,
}

/// Goes through a file.
pub(super) fn judge(file: &Value) -> Reading {
    let mut reading = Reading::default();
    head(file, &mut reading.findings);
    let mut names = BTreeSet::new();
    let mut covered = Vec::new();
    for (number, entry) in list(file, "resources").enumerate() {
        let place = format!("resources[{number}]");
        let resources: Vec<&str> = list(entry, "resources").filter_map(Value::as_str).collect();
        if resources.is_empty() {
            reading.findings.wrong(
                format!("{place} names no resources"),
                "add `resources: [secrets]`",
            );
        }
        covered.extend(resources);
        providers(entry, &place, &mut names, &mut reading);
    }
    let findings = &mut reading.findings;
    if reading.sockets.is_empty() {
        findings.wrong(
            "there is no kms provider in it",
            "add one as static-pod/encryption-config.yaml has it",
        );
    }
    let everything = |name: &str| name == "secrets" || name == "*." || name == "*.*";
    if !covered.is_empty() && !covered.iter().any(|name| everything(name)) {
        findings.doubt("Secrets are not among the resources that are encrypted");
    }
    reading.summary = format!(
        "{}, at {}",
        covered.join(" "),
        reading.sockets.join(" and ")
    );
    reading
}

fn head(file: &Value, findings: &mut Findings) {
    match text(file, "kind") {
        Some("EncryptionConfiguration") => {}
        Some("EncryptionConfig") => findings.wrong(
            "kind: EncryptionConfig is the name from before Kubernetes 1.13",
            format!("write `kind: EncryptionConfiguration` and `apiVersion: {API_VERSION}`"),
        ),
        other => findings.wrong(
            format!(
                "kind is {}, not EncryptionConfiguration",
                other.unwrap_or("missing")
            ),
            "write `kind: EncryptionConfiguration`, or name the right file",
        ),
    }
    if text(file, "apiVersion") != Some(API_VERSION) {
        findings.wrong(
            format!(
                "apiVersion is {}, not {API_VERSION}",
                text(file, "apiVersion").unwrap_or("missing")
            ),
            format!("write `apiVersion: {API_VERSION}`"),
        );
    }
    if list(file, "resources").next().is_none() {
        findings.wrong(
            "there are no resources in it",
            "add them as static-pod/encryption-config.yaml has it",
        );
    }
}

fn providers(entry: &Value, place: &str, names: &mut BTreeSet<String>, reading: &mut Reading) {
    let mut first = None;
    for (number, provider) in list(entry, "providers").enumerate() {
        let place = format!("{place}.providers[{number}]");
        let kinds: Vec<&str> = provider
            .as_object()
            .map(|fields| fields.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let [kind] = kinds.as_slice() else {
            reading.findings.wrong(
                format!("{place} is not one provider"),
                "begin each provider with a `-` of its own",
            );
            continue;
        };
        if !PROVIDERS.contains(kind) {
            reading.findings.wrong(
                format!("{place}: there is no provider {kind:?}"),
                format!("it is one of {}", PROVIDERS.join(", ")),
            );
        }
        first.get_or_insert((*kind).to_owned());
        if let Some(kms) = provider.get("kms") {
            kms_provider(kms, &place, names, reading);
        }
    }
    match first.as_deref() {
        None => reading.findings.wrong(
            format!("{place} has no providers"),
            "add `providers:` with kms first and `identity: {}` last",
        ),
        Some("kms") => {}
        Some("identity") => reading.findings.doubt(format!(
            "{place}: identity comes first, so what is written is NOT encrypted. That is right \
             only while nodes learn to read; then kms goes first"
        )),
        Some(other) => reading.findings.doubt(format!(
            "{place}: {other} comes first and wraps what is written; kms only reads"
        )),
    }
}

fn kms_provider(kms: &Value, place: &str, names: &mut BTreeSet<String>, reading: &mut Reading) {
    let findings = &mut reading.findings;
    match text(kms, "apiVersion") {
        Some("v2") => {}
        None => findings.wrong(
            format!("{place}.kms has no apiVersion, which means v1, off since Kubernetes 1.29"),
            "add `apiVersion: v2` below `kms:`",
        ),
        Some(other) => findings.wrong(
            format!("{place}.kms: apiVersion is {other}; this sidecar speaks v2 only"),
            "write `apiVersion: v2`. A provider of the Go plugin's v1 data needs that plugin \
             beside this one until all is rewritten",
        ),
    }
    if kms.get("cachesize").is_some() {
        findings.wrong(
            format!("{place}.kms: cachesize is for v1; kube-apiserver refuses it with v2"),
            "remove cachesize",
        );
    }
    let unknown = kms.as_object().into_iter().flat_map(|fields| fields.keys());
    for field in unknown.filter(|field| !KMS_FIELDS.contains(&field.as_str())) {
        findings.wrong(
            format!("{place}.kms: there is no field {field:?}, and decoding is strict"),
            "remove it",
        );
    }
    match text(kms, "name") {
        None | Some("") => findings.wrong(
            format!("{place}.kms has no name"),
            "add one, such as `name: barbican`; it is stored with every object",
        ),
        Some(name) if name.contains(':') => findings.wrong(
            format!("{place}.kms: the name {name:?} has a colon in it"),
            "take a name without one",
        ),
        Some(name) if !names.insert(name.to_owned()) => findings.wrong(
            format!("{place}.kms: the name {name:?} stands in another provider as well"),
            "put all resources into one entry, or give this provider a name of its own (the \
             socket may be the same)",
        ),
        Some(_) => {}
    }
    if matches!(text(kms, "timeout"), Some("0" | "0s" | "0ms" | "0m")) {
        findings.wrong(
            format!("{place}.kms: a timeout of zero is refused"),
            "write `timeout: 3s`",
        );
    }
    let endpoint = text(kms, "endpoint").unwrap_or_default();
    match endpoint.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => reading.sockets.push(path.to_owned()),
        Some(_) => findings.wrong(
            format!("{place}.kms: the endpoint {endpoint} has a relative path"),
            "write three slashes: `endpoint: unix:///run/barbican-kms/kms.sock`",
        ),
        None => findings.wrong(
            format!("{place}.kms: the endpoint is no unix socket"),
            "write `endpoint: unix:///run/barbican-kms/kms.sock`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../static-pod/encryption-config.yaml");

    fn judged(text: &str) -> Reading {
        judge(&crate::config::parse_yaml(text).expect("YAML"))
    }

    /// The good file with one text replaced.
    fn with(old: &str, new: &str) -> Findings {
        let changed = GOOD.replace(old, new);
        assert_ne!(changed, GOOD, "{old} is in the file");
        judged(&changed).findings
    }

    #[test]
    fn the_shipped_files_are_right() {
        let reading = judged(GOOD);
        assert_eq!(reading.findings.wrong, []);
        assert_eq!(reading.findings.doubts, [""; 0]);
        assert_eq!(reading.sockets, ["/run/barbican-kms/kms.sock"]);
        let first_step = include_str!("../../../static-pod/encryption-config-read.yaml");
        let findings = judged(first_step).findings;
        assert_eq!(findings.wrong, []);
        assert!(findings.doubts[0].contains("NOT encrypted"), "{findings:?}");
    }

    #[test]
    fn each_classic_mistake_is_found_with_its_fix() {
        for (old, new, found) in [
            (
                "EncryptionConfiguration\n",
                "EncryptionConfig\n",
                "before Kubernetes 1.13",
            ),
            ("EncryptionConfiguration\n", "Pod\n", "kind is Pod"),
            ("apiserver.config.k8s.io/v1", "v1", "apiVersion is v1, not"),
            ("      apiVersion: v2\n", "", "off since Kubernetes 1.29"),
            (
                "      apiVersion: v2\n",
                "      apiVersion: v1\n",
                "speaks v2 only",
            ),
            ("timeout: 3s", "timeout: 0s", "timeout of zero"),
            ("timeout: 3s", "cachesize: 1000", "cachesize is for v1"),
            ("timeout: 3s", "timeuot: 3s", "no field \"timeuot\""),
            ("name: barbican\n", "name: \"a:b\"\n", "has a colon"),
            ("      name: barbican\n", "", "has no name"),
            ("unix:///run", "unix://run", "a relative path"),
            ("unix:///run", "/run", "no unix socket"),
            ("  - kms:", "  - kmsv2:", "no provider \"kmsv2\""),
            ("  - secrets\n", "", "names no resources"),
        ] {
            let findings = with(old, new);
            let wrong = findings
                .wrong
                .iter()
                .find(|wrong| wrong.what.contains(found));
            let wrong = wrong.unwrap_or_else(|| panic!("{found}: {findings:?}"));
            assert!(!wrong.fix.is_empty());
        }
    }

    #[test]
    fn a_name_in_two_entries_is_found() {
        let entry = GOOD.split_once("resources:\n").expect("a list").1;
        let twice = format!("{GOOD}{}", entry.replace("secrets", "configmaps"));
        let findings = judged(&twice).findings;
        assert!(
            findings.wrong[0].what.contains("in another provider"),
            "{findings:?}"
        );
    }

    #[test]
    fn anything_may_stand_in_the_file() {
        for text in [
            "",
            "1",
            "[]",
            "resources: 1",
            "resources: [1]",
            "resources: [{providers: {}}]",
        ] {
            assert!(!judged(text).findings.wrong.is_empty(), "{text}");
        }
    }
}
