//! The kubelet's validation of related values: exactly one of several is required, or
//! two contradict each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::findings::{Findings, is_set, list, text};
use super::containers;
use super::findings_at::{FindingsAt, keys_and_values};
use super::names::Form;
use super::quantity;
use crate::cli::check::quoted;

const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

const SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// Fields of the pod that a variable may refer to; labels and annotations by name.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The built-in resources that a container can request.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn check(of: &str, value: &Value, at: &str, findings: &mut Findings) {
    let mut findings = FindingsAt { at, findings };
    match of {
        "ObjectMeta" => keys_and_values(value, "labels", &mut findings),
        "PodSpec" => containers::pod(value, &mut findings),
        "Container" => containers::container(value, &mut findings),
        "Probe" | "LifecycleHandler" => one_of(value, HANDLERS, &mut findings),
        "Lifecycle" if is_set(value, "stopSignal") => {
            findings.error("stopSignal", "needs spec.os.name", "remove it");
        }
        "ExecAction" if list(value, "command").next().is_none() => {
            findings.error("command", "is empty", "write one word per line");
        }
        "EnvVar" => {
            let is_filled = text(value, "value").is_some_and(|text| !text.is_empty());
            if is_filled && is_set(value, "valueFrom") {
                findings.error("", "has both value and valueFrom", "keep one");
            }
        }
        "EnvVarSource" => one_of(value, SOURCES, &mut findings),
        "EnvFromSource" => one_of(value, &["secretRef", "configMapRef"], &mut findings),
        "ObjectFieldSelector" => field_of_the_pod(value, &mut findings),
        "ResourceFieldSelector" => {
            let resource = text(value, "resource").unwrap_or_default();
            let known = resource.split_once('.').is_some_and(|(kind, name)| {
                ["limits", "requests"].contains(&kind)
                    && (RESOURCES.contains(&name) || name.starts_with("hugepages-"))
            });
            if !known {
                findings.error(
                    "resource",
                    "is not known",
                    "write limits.memory or the like",
                );
            }
        }
        "ResourceRequirements" => resources(value, &mut findings),
        "SecurityContext" => security(value, &mut findings),
        "SeccompProfile" | "AppArmorProfile" => {
            let is_local = text(value, "type") == Some("Localhost");
            let profile = text(value, "localhostProfile").map(str::trim);
            let is_empty = profile.is_none_or(str::is_empty) && of == "AppArmorProfile";
            if is_local && (profile.is_none() || is_empty) {
                findings.error("localhostProfile", "is missing", "name the profile's file");
            } else if !is_local && profile.is_some() {
                let fix = "remove it, or write `type: Localhost`";
                findings.error("localhostProfile", "is for type Localhost", fix);
            }
        }
        "VolumeMount" => mount(value, &mut findings),
        "EmptyDirVolumeSource" => {
            let limit = value.get("sizeLimit").and_then(quantity::value);
            if limit.is_some_and(|limit| limit < 0.0) {
                findings.error("sizeLimit", "is negative", "write `sizeLimit: 1Mi`");
            }
        }
        "Toleration" => toleration(value, &mut findings),
        "NFSVolumeSource" if text(value, "path").is_some_and(|path| !path.starts_with('/')) => {
            findings.error("path", "does not begin with `/`", "write the full path");
        }
        _ => {}
    }
}

fn one_of(value: &Value, keys: &[&str], findings: &mut FindingsAt<'_>) {
    let given: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| is_set(value, key))
        .collect();
    if given.is_empty() {
        let fix = format!("write one of {}", keys.join(", "));
        findings.error("", "has no field that the kubelet knows", &fix);
    } else if given.len() > 1 {
        findings.error(
            "",
            &format!("has {}", given.join(" and ")),
            "keep one of them",
        );
    }
}

fn mount(mount: &Value, findings: &mut FindingsAt<'_>) {
    let filled = |key: &str| text(mount, key).is_some_and(|text| !text.is_empty());
    if filled("subPath") && filled("subPathExpr") {
        findings.error("", "has both subPath and subPathExpr", "keep one");
    }
    let recursive = text(mount, "recursiveReadOnly");
    if recursive.is_some_and(|word| ["IfPossible", "Enabled"].contains(&word)) {
        let is_read_only = mount.get("readOnly").and_then(Value::as_bool) == Some(true);
        let propagates = text(mount, "mountPropagation").is_some_and(|word| word != "None");
        if !is_read_only || propagates {
            let what = "needs readOnly, and no mountPropagation";
            findings.error("recursiveReadOnly", what, "remove recursiveReadOnly");
        }
    }
    let mut known = BTreeSet::new();
    for option in list(mount, "bindMountOptions").filter_map(Value::as_str) {
        if !["noexec", "nodev", "nosuid"].contains(&option) || !known.insert(option) {
            let what = format!("has {}, or twice", quoted::word(option));
            findings.error("bindMountOptions", &what, "write noexec, nodev, nosuid");
        }
    }
}

fn field_of_the_pod(value: &Value, findings: &mut FindingsAt<'_>) {
    let path = text(value, "fieldPath").unwrap_or_default();
    let entry = |of: &str| path.starts_with(&format!("metadata.{of}['")) && path.ends_with("']");
    if !FIELDS.contains(&path) && !entry("labels") && !entry("annotations") {
        let fix = format!("write one of {}", FIELDS.join(", "));
        findings.error("fieldPath", "is not a name that a variable can have", &fix);
    }
    let version = text(value, "apiVersion").unwrap_or_default();
    if !["", "v1"].contains(&version) {
        findings.error("apiVersion", "is not v1", "remove it");
    }
}

fn resources(value: &Value, findings: &mut FindingsAt<'_>) {
    // Nothing is decoded as zero.
    let amount_of = |amount: &Value| match amount {
        Value::Null => Some(0.0),
        amount => quantity::value(amount),
    };
    let of = |kind: &str| value.get(kind).and_then(Value::as_object);
    for kind in ["limits", "requests"] {
        for (name, amount) in of(kind).into_iter().flatten() {
            let is_huge = name.starts_with("hugepages-");
            let is_native = RESOURCES.contains(&name.as_str()) || is_huge;
            let is_own = name.contains('/') && Form::Key.fits(name);
            if !is_native && !is_own {
                let what = format!(
                    "has {}, which is not a resource of a container",
                    quoted::word(name)
                );
                findings.error(kind, &what, "write cpu, memory or ephemeral-storage");
            }
            let Some(amount) = amount_of(amount) else {
                continue;
            };
            if amount < 0.0 || (is_own && amount.fract() != 0.0) {
                let what = format!("has {} with an impossible amount", quoted::word(name));
                findings.error(kind, &what, "write an amount above zero");
            }
            let limit = of("limits").and_then(|all| all.get(name));
            let limit = limit.and_then(amount_of);
            let is_shared = is_native && !is_huge;
            let exceeds = limit.is_some_and(|limit| amount > limit);
            let differs = !is_shared && limit != Some(amount);
            if kind == "requests" && (exceeds || differs) {
                let what = format!("has more {} than limits has", quoted::word(name));
                findings.error(kind, &what, "raise the limit, or lower the request");
            }
        }
    }
    if list(value, "claims").next().is_some() {
        findings.error("claims", "names claims of the API", "remove it");
    }
}

fn security(value: &Value, findings: &mut FindingsAt<'_>) {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    if flag("allowPrivilegeEscalation") == Some(false) {
        let capabilities = value.get("capabilities");
        let mut added = capabilities.into_iter().flat_map(|all| list(all, "add"));
        let what = if flag("privileged") == Some(true) {
            "contradicts privileged"
        } else if added.any(|one| one.as_str() == Some("CAP_SYS_ADMIN")) {
            "contradicts the capability CAP_SYS_ADMIN"
        } else {
            return;
        };
        findings.error("allowPrivilegeEscalation", what, "remove one of them");
    }
}

fn toleration(value: &Value, findings: &mut FindingsAt<'_>) {
    let of = |key: &str| text(value, key).unwrap_or_default();
    let (operator, word) = (of("operator"), of("value"));
    let fits = match operator {
        "Exists" => word.is_empty(),
        "Lt" | "Gt" => word.parse::<i64>().is_ok(),
        _ => Form::LabelValue.fits(word),
    };
    if !fits {
        let fix = "remove value, or write `operator: Equal`";
        findings.error("value", "does not fit the operator", fix);
    }
    if of("key").is_empty() && operator != "Exists" {
        findings.error("operator", "must be Exists without a key", "write Exists");
    }
    if is_set(value, "tolerationSeconds") && of("effect") != "NoExecute" {
        let fix = "remove tolerationSeconds";
        findings.error("effect", "must be NoExecute with tolerationSeconds", fix);
    }
}
