//! Which pod a manifest is of: a static pod, or the template of a Deployment or `StatefulSet`,
//! as hosted control planes have it.

use serde_json::Value;

use super::super::findings::{Findings, text};
use super::pod::{Container, Pod};
use super::sidecar;

/// What has a template of a kube-apiserver's pod.
const WORKLOADS: [&str; 2] = ["Deployment", "StatefulSet"];

/// A pod, and who runs it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Shape<'a> {
    /// With its metadata and spec.
    pub(in super::super) pod: &'a Value,
    /// The kubelet runs it from a file, so that it cannot refer to the API.
    pub(in super::super) is_static: bool,
    /// Where in the manifest it is.
    pub(super) at: &'static str,
}

impl<'a> Shape<'a> {
    /// None when the manifest is of something else.
    pub(in super::super) fn of(manifest: &'a Value) -> Option<Self> {
        let kind = text(manifest, "kind")?;
        if kind == "Pod" {
            return Some(Self {
                pod: manifest,
                is_static: true,
                at: "",
            });
        }
        let pod = WORKLOADS
            .contains(&kind)
            .then(|| manifest.pointer("/spec/template"))??;
        Some(Self {
            pod,
            is_static: false,
            at: "spec.template",
        })
    }

    pub(super) fn spec(self) -> Pod<'a> {
        Pod {
            spec: self.pod.get("spec").unwrap_or(&Value::Null),
        }
    }

    /// The container of kube-apiserver, whose name is not the same everywhere.
    pub(super) fn server(self) -> Option<Container<'a>> {
        self.spec().containers().find(|one| one.is_server())
    }

    /// Whether a container of ours is in it.
    pub(super) fn has_sidecar(self) -> bool {
        sidecar::find(self.spec(), &mut Findings::default()).is_some()
    }
}

/// Whether a manifest is a hosted kube-apiserver.
pub(super) fn is_hosted_server(manifest: &Value) -> bool {
    Shape::of(manifest).is_some_and(|shape| !shape.is_static && shape.server().is_some())
}

pub(super) fn the_workload_is_of_apps(workload: &Value, findings: &mut Findings) {
    if text(workload, "apiVersion") != Some("apps/v1") {
        findings.error(
            "the apiVersion is not apps/v1",
            "write `apiVersion: apps/v1`",
        );
    }
}
