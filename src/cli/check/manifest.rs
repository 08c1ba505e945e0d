//! kube-apiserver's static pod with the sidecar in it: rules over a pod, one function each.
//!
//! [`judge`] is pure; `check` reads the file, and [`directory`] and [`cloud_files`] look
//! around. What a path means depends on the container: both must reach the socket through
//! the same volume.

pub(super) mod cloud_files;
mod containers;
pub(super) mod directory;
pub(super) mod document;
mod expansion;
mod flags;
mod here;
mod names;
mod pod;
mod probes;
mod quantity;
mod references;
mod relations;
mod server;
mod sidecar;
mod socket;
mod types;
mod users;
mod validity;
mod values;

use std::path::Path;

use serde_json::Value;

use super::findings::{Findings, text};
use pod::{Container, Pod};

pub use sidecar::{Called, Served, Understand};

/// Beside the manifest, what it is held against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside<'a> {
    /// The sockets that the EncryptionConfiguration names.
    pub(super) sockets: &'a [String],
    /// The absolute path of that, when there is one.
    pub(super) checked: Option<&'a Path>,
    /// Whether the manifest is JSON.
    pub(super) is_json: bool,
    /// The parser of our own command line.
    pub(super) understand: Option<Understand>,
}

/// Goes through a manifest.
pub(super) fn judge(manifest: &Value, beside: Beside<'_>) -> Findings {
    let mut findings = Findings::default();
    let fix = "name kube-apiserver's manifest with --manifest";
    if text(manifest, "kind") != Some("Pod") {
        findings.error("this is not a Pod", fix);
        return findings;
    }
    let none = Value::Null;
    let pod = Pod {
        spec: manifest.get("spec").unwrap_or(&none),
    };
    types::fields_are_as_declared(manifest, beside.is_json, &mut findings);
    validity::the_pod_has_a_name(manifest, &mut findings);
    validity::names_are_given_once(pod, &mut findings);
    validity::mounts_have_volumes(pod, &mut findings);
    validity::volumes_are_of_one_kind(pod, &mut findings);
    references::only_what_the_node_has(pod, &mut findings);
    let server = pod.containers().find(|one| one.name() == "kube-apiserver");
    let Some(server) = server else {
        findings.error("there is no container kube-apiserver in it", fix);
        return findings;
    };
    let flags = server::flags_of(server);
    server::each_word_is_one_flag(&flags, &mut findings);
    server::encryption_flags_exist(&flags, &mut findings);
    server::it_encrypts(&flags, &mut findings);
    server::encryption_config_is_mounted(server, &flags, &mut findings);
    if let Some(checked) = beside.checked {
        server::it_reads_what_was_checked(server, &flags, checked, &mut findings);
    }
    users::root_is_allowed(server, server.server_user(), &mut findings);
    users::kube_apiserver_can_read(server, &mut findings);
    match sidecar::find(pod, &mut findings) {
        Some(sidecar) => judge_sidecar(server, sidecar, beside, &mut findings),
        None => findings.error(
            "there is no barbican-kms container in it",
            "add it with the patch in static-pod/kubeadm/patches; after `kubeadm upgrade` \
             without --patches it is gone",
        ),
    }
    findings
}

fn judge_sidecar(
    server: Container<'_>,
    sidecar: Container<'_>,
    beside: Beside<'_>,
    findings: &mut Findings,
) {
    sidecar::it_outlives_kube_apiserver(sidecar, findings);
    sidecar::the_network_is_the_nodes(sidecar.pod, findings);
    let told = sidecar::it_can_be_started(sidecar, beside.understand, findings);
    sidecar::its_group_is_a_number(sidecar, findings);
    sidecar::its_image_stays(sidecar, findings);
    sidecar::its_limits_suffice(sidecar, findings);
    sidecar::its_hooks_can_run(sidecar, findings);
    sidecar::its_metrics_stay_on_the_node(sidecar.pod, &told, findings);
    probes::they_ask_what_is_answered(sidecar, &told, beside.understand, findings);
    if !told.cloud_config.is_empty() {
        let (flag, path) = ("cloud-config", told.cloud_config.as_str());
        server::file_is_mounted(sidecar, flag, path, "the sidecar", findings);
    }
    users::root_is_allowed(sidecar, sidecar.sidecar_user(), findings);
    users::files_can_be_read(sidecar, &told, findings);
    socket::the_audit_log_can_be_written(sidecar, &told, findings);
    if let Some(made) = socket::the_sidecar_can_make_it(sidecar, &told, findings) {
        let listens = told.socketpath.as_str();
        socket::kube_apiserver_finds_it(server, beside.sockets, listens, &made, findings);
        users::kube_apiserver_can_connect(server, sidecar, &told, &made, findings);
    }
}

#[cfg(test)]
mod tests;
