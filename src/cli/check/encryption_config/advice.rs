//! What kube-apiserver takes and may not be meant so.

use super::configuration::{Configuration, Entry, Provider};
use super::resources::{EVERYTHING, GroupResource};
use crate::cli::check::findings::Findings;

const SECRETS: GroupResource<'static> = GroupResource {
    resource: "secrets",
    group: "",
};

pub(super) fn give(configuration: &Configuration, findings: &mut Findings) {
    let entries = &configuration.entries;
    let mut providers = entries.iter().flat_map(|entry| &entry.providers);
    let has_kms = providers.any(|provider| provider.kms.is_some());
    if !entries.is_empty() && !has_kms {
        findings.warn(
            "there is no kms provider in it, so kube-apiserver does not use the sidecar: add one \
             as in static-pod/encryption-config.yaml",
        );
    }
    for entry in entries {
        first_provider(entry, has_kms, findings);
    }
    secrets(entries, findings);
}

/// The first provider writes; the others only read.
fn first_provider(entry: &Entry, has_kms: bool, findings: &mut Findings) {
    let mut kinds = entry.providers.iter().map(|provider| provider.kind);
    let first = kinds.next().flatten();
    let later_kms = kinds.any(|kind| kind == Some("kms"));
    let path = format!("{}.providers[0]", entry.path);
    match first {
        Some("identity") if later_kms => findings.warn(format!(
            "{path}: identity comes first, so new data is NOT encrypted. That is right only until \
             all nodes can read encrypted data; then put kms first"
        )),
        Some(kind) if kind != "kms" && kind != "identity" && has_kms => findings.warn(format!(
            "{path}: {kind} comes first and encrypts new data; kms only reads"
        )),
        _ => {}
    }
}

/// Whether Secrets are encrypted, by the first that names them: all entries with the
/// resource itself, or else with its group, or else with everything.
fn secrets(entries: &[Entry], findings: &mut Findings) {
    let named = |wanted: GroupResource<'static>| {
        let has = move |entry: &&Entry| {
            let mut names = entry.resources.iter().flatten();
            names.any(|name| GroupResource::parse(name) == wanted)
        };
        entries.iter().find(has)
    };
    let entry = [SECRETS, SECRETS.whole_group(), EVERYTHING]
        .into_iter()
        .find_map(named);
    let Some(entry) = entry else {
        if entries.iter().any(|entry| !entry.resources.is_empty()) {
            findings.warn("Secrets are not among the resources that are encrypted");
        }
        return;
    };
    let kind = |provider: &Provider| provider.kind;
    let first = entry.providers.first().and_then(kind);
    let later_kms = entry
        .providers
        .iter()
        .skip(1)
        .filter_map(kind)
        .any(|kind| kind == "kms");
    // With kms behind it, that has been said.
    if first == Some("identity") && !later_kms {
        findings.warn(format!(
            "{}.providers[0]: Secrets are written by this identity, NOT encrypted, whatever a \
             later entry says",
            entry.path
        ));
    }
}
