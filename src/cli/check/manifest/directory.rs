//! The files next to the manifest: the kubelet runs every file of that directory whose
//! name does not begin with a dot, and kubeadm's patches are in a directory next to it.

use std::path::Path;

use serde_json::Value;

use super::super::findings::{Findings, text};
use super::document::{self, Document};
use super::shape::Shape;
use crate::config::files;

/// Where kubeadm's patches usually are, from the directory of manifests.
const PATCHES: &str = "../patches";

/// Files that kubeadm creates next to the directory of manifests.
const KUBEADMS: [&str; 3] = ["../admin.conf", "../kubelet.conf", "../pki"];

/// How many names a message lists.
const SHOWN: usize = 3;

/// The kubelet runs a copy of the manifest as well; which of the two wins is random.
pub(in super::super) fn nothing_else_runs(manifest: &Path, pod: &Value, findings: &mut Findings) {
    let Some(own) = manifest.file_name().map(|name| name.to_string_lossy()) else {
        return;
    };
    let is_own_server = is_server(pod);
    let mut others: Vec<String> = beside(manifest)
        .into_iter()
        .filter(|(_, other)| (is_own_server && is_server(other)) || name_of(other) == name_of(pod))
        .map(|(name, _)| name)
        .collect();
    others.sort();
    if others.is_empty() {
        return;
    }
    let mut names = others
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if others.len() > SHOWN {
        names = format!("{names} and {} more", others.len() - SHOWN);
    }
    let what = format!(
        "in the same directory is {names}, {}: the kubelet runs every file in its manifest \
         directory whose name does not begin with a dot",
        if is_own_server {
            "also a kube-apiserver"
        } else {
            "also this pod"
        }
    );
    // Other directories may hold several manifests.
    let is_copy = others.iter().any(|other| other.starts_with(own.as_ref()));
    if is_copy || own.starts_with("kube-apiserver.") {
        findings.error(
            what,
            "move it out of the directory, or give it a name that begins with a dot",
        );
    } else {
        findings.warn(what);
    }
}

/// Pods of other files that the kubelet runs.
pub(super) fn pods_beside(manifest: &Path) -> Vec<Value> {
    beside(manifest).into_iter().map(|(_, pod)| pod).collect()
}

/// The same, with the names of the files.
fn beside(manifest: &Path) -> Vec<(String, Value)> {
    let own = manifest.file_name().unwrap_or_default();
    let entries = std::fs::read_dir(directory_of(manifest));
    let entries = entries.into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_run = entry.file_name() != own && !name.starts_with('.');
        Some((name, pod_in(&entry.path()).filter(|_| is_run)?))
    });
    files.collect()
}

fn pod_in(path: &Path) -> Option<Value> {
    let content = files::read(path).ok()?;
    let Document { pod, .. } = document::read(&content.bytes, &mut Findings::default()).ok()?;
    (text(&pod, "kind") == Some("Pod")).then_some(pod)
}

fn is_server(pod: &Value) -> bool {
    Shape::of(pod).is_some_and(|shape| shape.server().is_some())
}

fn name_of(pod: &Value) -> Option<&str> {
    pod.pointer("/metadata/name")?.as_str()
}

/// Whether kubeadm has written the manifest and will write it again without the
/// sidecar. This is known only if kubeadm's own files are there.
pub(in super::super) fn kubeadm_has_the_patch(
    manifest: &Path,
    pod: &Value,
    findings: &mut Findings,
) {
    let directory = directory_of(manifest);
    let has_sidecar = Shape::of(pod).is_some_and(Shape::has_sidecar);
    let is_kubeadms = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .is_some_and(|all| {
            all.keys()
                .any(|key| key.starts_with("kubeadm.kubernetes.io/"))
        });
    let mut kubeadms = KUBEADMS.iter().chain([&PATCHES]);
    let is_written_again = is_kubeadms && kubeadms.any(|name| directory.join(name).exists());
    if has_sidecar && is_written_again && !has_patch(directory) {
        findings.warn(format!(
            "kubeadm has written this manifest and will write it again without the sidecar, \
             because no patch in {} adds it. Copy static-pod/kubeadm/patches there, and run \
             `kubeadm upgrade` with --patches",
            directory.join(PATCHES).display()
        ));
    }
}

/// Whether one of kubeadm's patches for kube-apiserver adds the sidecar; there may be
/// other patches.
fn has_patch(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory.join(PATCHES));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("kube-apiserver")
        })
        .filter_map(|entry| files::read(&entry.path()).ok())
        .any(|patch| String::from_utf8_lossy(&patch.bytes).contains("barbican-kms"))
}

/// The directory of a file.
fn directory_of(file: &Path) -> &Path {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
