//! What the kubelet's validation refuses of the pod as a whole: names, mounts and volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::findings::{Findings, list, text};
use super::names::is_label;
use super::pod::Pod;
use crate::cli::check::quoted;

pub(super) fn the_pod_has_a_name(pod: &Value, findings: &mut Findings) {
    if pod
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        findings.error(
            "the pod has no metadata.name",
            "write `name: kube-apiserver`",
        );
    }
    if text(pod, "apiVersion") != Some("v1") {
        findings.error("the pod's apiVersion is not v1", "write `apiVersion: v1`");
    }
}

pub(super) fn names_are_given_once(pod: Pod<'_>, findings: &mut Findings) {
    let containers = pod.containers().map(|one| text(one.value, "name"));
    once("container", containers, findings);
    let volumes = list(pod.spec, "volumes").map(|one| text(one, "name"));
    once("volume", volumes, findings);
    for container in pod.containers() {
        if container.image().trim() != container.image() || container.image().is_empty() {
            findings.error(
                format!("container {} has no image", quoted::name(container.name())),
                "name kube-apiserver's manifest, which kubeadm creates from this file and the \
                 patches",
            );
        }
    }
}

fn once<'a>(what: &str, names: impl Iterator<Item = Option<&'a str>>, findings: &mut Findings) {
    let mut known = BTreeSet::new();
    for name in names {
        match name {
            None | Some("") => findings.error(format!("a {what} has no name"), "write one"),
            Some(name) if !is_label(name) => findings.error(
                format!(
                    "{what} {}: the name must consist of lower-case letters, digits and `-`",
                    quoted::word(name)
                ),
                "change it, also where it is used",
            ),
            Some(name) if !known.insert(name) => findings.error(
                format!("two {what}s are called {name}: the kubelet refuses the pod"),
                "remove one, or give it another name",
            ),
            Some(_) => {}
        }
    }
}

pub(super) fn mounts_have_volumes(pod: Pod<'_>, findings: &mut Findings) {
    for container in pod.containers() {
        let mut paths = BTreeSet::new();
        for mount in list(container.value, "volumeMounts") {
            let name = text(mount, "name").unwrap_or_default();
            let shown = quoted::name(name);
            if pod.volume(name).is_none() {
                findings.error(
                    format!(
                        "container {} mounts the volume {shown}, which is not declared",
                        quoted::name(container.name())
                    ),
                    "add it below `volumes:`",
                );
            }
            let path = text(mount, "mountPath").unwrap_or_default();
            if path.is_empty() || !paths.insert(path) {
                findings.error(
                    format!(
                        "container {} has no mountPath for {shown}, or two mounts at {}",
                        quoted::name(container.name()),
                        quoted::path(path)
                    ),
                    "give each mount its own path",
                );
            }
            let below = text(mount, "subPath").unwrap_or_default();
            if below.starts_with('/') || below.split('/').any(|part| part == "..") {
                findings.error(
                    format!(
                        "subPath {} of {shown} must be below the volume",
                        quoted::path(below)
                    ),
                    "remove the first `/`, and each `..`",
                );
            }
        }
    }
}

pub(super) fn volumes_are_of_one_kind(pod: Pod<'_>, findings: &mut Findings) {
    for volume in list(pod.spec, "volumes") {
        let name = text(volume, "name").unwrap_or_default();
        let kinds = volume.as_object().into_iter().flatten();
        let kinds = kinds.filter(|(key, value)| *key != "name" && !value.is_null());
        if kinds.count() > 1 {
            findings.error(
                format!("volume {} has several types", quoted::name(name)),
                "keep one",
            );
        }
        if let Some(host) = volume.get("hostPath").filter(|host| !host.is_null()) {
            let path = text(host, "path").unwrap_or_default();
            if path.is_empty() || path.split('/').any(|part| part == "..") {
                findings.error(
                    format!(
                        "volume {} has the hostPath {}",
                        quoted::name(name),
                        quoted::word(path)
                    ),
                    "write the directory's path, without `..`",
                );
            }
        }
    }
}
