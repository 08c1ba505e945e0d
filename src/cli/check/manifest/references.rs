//! What a static pod may not refer to: whatever only the API server has.
//!
//! The kubelet's list, `HasAPIObjectReference`.

use super::super::findings::{Findings, is_set, list, text};
use super::pod::Pod;
use crate::cli::check::quoted;

/// Fields of a volume that hold something of the API.
const OF_THE_API: [(&str, &str); 7] = [
    ("secret", "a Secret"),
    ("configMap", "a ConfigMap"),
    ("persistentVolumeClaim", "a PersistentVolumeClaim"),
    ("ephemeral", "a PersistentVolumeClaim"),
    ("csi", "a CSIDriver"),
    ("glusterfs", "Endpoints"),
    ("azureFile", "a Secret"),
];

/// The same for a source of a projected volume.
const PROJECTED: [(&str, &str); 5] = [
    ("secret", "a Secret"),
    ("configMap", "a ConfigMap"),
    ("serviceAccountToken", "a service account"),
    ("clusterTrustBundle", "a ClusterTrustBundle"),
    ("podCertificate", "a PodCertificateRequest"),
];

pub(super) fn only_what_the_node_has(pod: Pod<'_>, findings: &mut Findings) {
    let mut refer = |place: String, what: &str, fix: &str| {
        findings.error(
            format!("{place} refers to {what}: the kubelet refuses this in a static pod"),
            fix,
        );
    };
    let directory = "store the files on the node and mount their directory as hostPath";
    for volume in list(pod.spec, "volumes") {
        let place = format!(
            "volume {}",
            quoted::name(text(volume, "name").unwrap_or_default())
        );
        for (key, what) in OF_THE_API.iter().filter(|(key, _)| is_set(volume, key)) {
            refer(format!("{place} ({key})"), what, directory);
        }
        let sources = volume.get("projected").map(|all| list(all, "sources"));
        for source in sources.into_iter().flatten() {
            for (key, what) in PROJECTED.iter().filter(|(key, _)| is_set(source, key)) {
                refer(format!("{place} (projected, {key})"), what, directory);
            }
        }
        // Drivers with a secretRef, and csi's.
        for (kind, driver) in volume.as_object().into_iter().flatten() {
            for key in ["secretRef", "nodePublishSecretRef"] {
                if is_set(driver, key) {
                    refer(
                        format!("{place} ({}.{key})", quoted::name(kind)),
                        "a Secret",
                        directory,
                    );
                }
            }
        }
    }
    for container in pod.containers() {
        let place = format!("container {}", quoted::name(container.name()));
        for one in list(container.value, "envFrom") {
            for (key, what) in [("secretRef", "a Secret"), ("configMapRef", "a ConfigMap")] {
                if is_set(one, key) {
                    let fix = "write the values into the manifest, or into the cloud-config";
                    refer(format!("{place} (envFrom, {key})"), what, fix);
                }
            }
        }
        for one in list(container.value, "env") {
            let name = quoted::name(text(one, "name").unwrap_or_default());
            for (key, what) in [
                ("secretKeyRef", "a Secret"),
                ("configMapKeyRef", "a ConfigMap"),
            ] {
                if one.get("valueFrom").is_some_and(|from| is_set(from, key)) {
                    let fix = "write the value into the manifest, or into the cloud-config";
                    refer(format!("{place} (env {name}, {key})"), what, fix);
                }
            }
        }
    }
    for key in ["serviceAccountName", "serviceAccount"] {
        if text(pod.spec, key).is_some_and(|name| !name.is_empty()) {
            let fix = format!("remove {key}: a static pod has no token");
            refer(format!("spec.{key}"), "a service account", &fix);
        }
    }
    if list(pod.spec, "imagePullSecrets").next().is_some() {
        let fix = "load the image on the node, or configure the credentials in the container \
                   runtime";
        refer("spec.imagePullSecrets".to_owned(), "a Secret", fix);
    }
    if list(pod.spec, "resourceClaims").next().is_some() {
        refer(
            "spec.resourceClaims".to_owned(),
            "a ResourceClaim",
            "remove it",
        );
    }
}
