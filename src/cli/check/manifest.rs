//! kube-apiserver's pod with the sidecar in it, or the two in pods of their own: rules over a
//! pod, one function each.
//!
//! [`check`] is pure; `check` reads the file, and [`directory`] and [`cloud_files`] look
//! around. What a path means depends on the container: both must reach the socket through
//! the same volume.

pub(super) mod cloud_files;
mod containers;
pub(super) mod directory;
pub(super) mod document;
mod expansion;
mod findings_at;
mod flags;
mod names;
pub(super) mod outside;
mod pod;
mod probes;
mod quantity;
mod references;
mod relations;
mod server;
pub(super) mod shape;
mod sidecar;
mod socket;
mod types;
mod users;
mod validity;
mod values;

use std::path::Path;

use serde_json::Value;

use super::findings::Findings;
use pod::{Container, Place};
use shape::Shape;

pub use sidecar::{Called, Served, Understand};

/// What a manifest is checked against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context<'a> {
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
pub(super) fn check(manifest: &Value, context: Context<'_>) -> Findings {
    let mut findings = Findings::default();
    let fix = "name kube-apiserver's manifest with --manifest";
    let Some(shape) = Shape::of(manifest) else {
        findings.error("this is not a Pod, Deployment or StatefulSet", fix);
        return findings;
    };
    let pod = shape.spec();
    types::fields_are_as_declared(shape.pod, shape.at, context.is_json, &mut findings);
    validity::names_are_given_once(pod, &mut findings);
    validity::mounts_have_volumes(pod, &mut findings);
    validity::volumes_are_of_one_kind(pod, &mut findings);
    if shape.is_static {
        validity::the_pod_has_a_name(manifest, &mut findings);
        references::only_what_the_node_has(pod, &mut findings);
    } else {
        shape::the_workload_is_of_apps(manifest, &mut findings);
    }
    match (shape.server(), sidecar::find(pod, &mut findings)) {
        (Some(server), Some(sidecar)) => {
            check_server(server, context, &mut findings);
            check_pair(shape, server, sidecar, context, &mut findings);
        }
        (Some(server), None) => {
            check_server(server, context, &mut findings);
            outside::kube_apiserver_finds_the_plugin(shape, server, context.sockets, &mut findings);
        }
        (None, Some(plugin)) if shape.is_static => {
            let (told, made) = check_plugin(shape, plugin, context, &mut findings);
            if let Some(made) = made {
                outside::the_plugin_can_be_found(&told, &made, context.sockets, &mut findings);
            }
        }
        (None, _) => findings.error("there is no container kube-apiserver in it", fix),
    }
    findings
}

fn check_server(server: Container<'_>, context: Context<'_>, findings: &mut Findings) {
    let flags = server::flags_of(server);
    server::each_word_is_one_flag(&flags, findings);
    server::encryption_flags_exist(&flags, findings);
    server::it_encrypts(&flags, findings);
    server::encryption_config_is_mounted(server, &flags, findings);
    if let Some(checked) = context.checked {
        server::it_reads_what_was_checked(server, &flags, checked, findings);
    }
    users::root_is_allowed(server, server.server_user(), findings);
    users::kube_apiserver_can_read(server, &flags, findings);
}

/// kube-apiserver and the sidecar in one pod.
fn check_pair(
    shape: Shape<'_>,
    server: Container<'_>,
    sidecar: Container<'_>,
    context: Context<'_>,
    findings: &mut Findings,
) {
    sidecar::it_outlives_kube_apiserver(sidecar, findings);
    let (told, made) = check_plugin(shape, sidecar, context, findings);
    if let Some(made) = made {
        let listens = told.socketpath.as_str();
        socket::kube_apiserver_finds_it(server, context.sockets, listens, &made, findings);
        users::kube_apiserver_can_connect(server, sidecar, &told, &made, findings);
        if !shape.is_static {
            socket::it_is_the_pods_own(&made, findings);
        }
    }
}

/// Our container, wherever it runs: what it serves, and where it makes its socket.
fn check_plugin(
    shape: Shape<'_>,
    sidecar: Container<'_>,
    context: Context<'_>,
    findings: &mut Findings,
) -> (Served, Option<Place>) {
    if shape.is_static {
        sidecar::the_network_is_the_nodes(sidecar.pod, findings);
    }
    let told = sidecar::it_can_be_started(sidecar, context.understand, findings);
    sidecar::its_group_is_a_number(sidecar, findings);
    sidecar::its_image_stays(sidecar, findings);
    sidecar::its_limits_suffice(sidecar, findings);
    sidecar::its_hooks_can_run(sidecar, findings);
    sidecar::its_metrics_stay_on_the_node(sidecar.pod, &told, findings);
    probes::they_ask_what_is_answered(sidecar, &told, context.understand, findings);
    if !told.cloud_config.is_empty() {
        let (flag, path) = ("cloud-config", told.cloud_config.as_str());
        server::file_is_mounted(sidecar, flag, path, "the sidecar", findings);
    }
    users::root_is_allowed(sidecar, sidecar.sidecar_user(), findings);
    users::files_can_be_read(sidecar, &told, findings);
    socket::the_audit_log_can_be_written(sidecar, &told, findings);
    let made = socket::the_sidecar_can_make_it(sidecar, &told, findings);
    (told, made)
}

#[cfg(test)]
mod tests;
