//! What lies beside the manifest: the kubelet runs every file of that directory whose name
//! does not begin with a dot, and kubeadm's patches are next to it.

use std::path::Path;

use serde_json::Value;

use super::super::findings::{Findings, list, text};
use super::document::{self, Document};
use crate::config::files;

/// Where kubeadm's patches usually are, from the directory of manifests.
const PATCHES: &str = "../patches";

/// What kubeadm leaves beside the directory of manifests.
const KUBEADMS: [&str; 3] = ["../admin.conf", "../kubelet.conf", "../pki"];

/// How many names are said.
const SHOWN: usize = 3;

/// A copy of the manifest runs as well, and one of the two at random.
pub(in super::super) fn nothing_else_runs(manifest: &Path, pod: &Value, findings: &mut Findings) {
    let Some(own) = manifest.file_name().map(|name| name.to_string_lossy()) else {
        return;
    };
    let entries = std::fs::read_dir(directory_of(manifest));
    let mut others: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name != own && !name.starts_with('.') && is_the_same_pod(&entry.path(), pod)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
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
        "in the same directory is {names}, also a kube-apiserver: the kubelet runs every file in \
         its manifest directory whose name does not begin with a dot"
    );
    // Elsewhere, manifests may well be collected.
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

fn is_the_same_pod(path: &Path, pod: &Value) -> bool {
    let Ok(content) = files::read(path) else {
        return false;
    };
    let read = document::read(&content.bytes, &mut Findings::default());
    let Ok(Document { pod: other, .. }) = read else {
        return false;
    };
    let name = |pod: &Value| pod.pointer("/metadata/name")?.as_str().map(str::to_owned);
    let containers = other.get("spec").map(|spec| list(spec, "containers"));
    let is_server = containers
        .into_iter()
        .flatten()
        .any(|one| text(one, "name") == Some("kube-apiserver"));
    text(&other, "kind") == Some("Pod") && (is_server || name(&other) == name(pod))
}

/// Whether kubeadm has written the manifest, and will write it again without the sidecar:
/// known only where kubeadm's own files are.
pub(in super::super) fn kubeadm_has_the_patch(
    manifest: &Path,
    pod: &Value,
    findings: &mut Findings,
) {
    let directory = directory_of(manifest);
    let is_kubeadms = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .is_some_and(|all| {
            all.keys()
                .any(|key| key.starts_with("kubeadm.kubernetes.io/"))
        });
    let mut kubeadms = KUBEADMS.iter().chain([&PATCHES]);
    if is_kubeadms && kubeadms.any(|name| directory.join(name).exists()) && !has_patch(directory) {
        findings.warn(format!(
            "kubeadm has written this manifest and will write it again without the sidecar, \
             because no patch in {} adds it. Copy static-pod/kubeadm/patches there, and run \
             `kubeadm upgrade` with --patches",
            directory.join(PATCHES).display()
        ));
    }
}

/// Whether one of kubeadm's patches for kube-apiserver puts the sidecar in; others may
/// lie there too.
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

/// The directory that a file lies in.
fn directory_of(file: &Path) -> &Path {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
