//! The kubelet's validation of single values, by type and field: lists of allowed
//! words, ranges of numbers, and forms of names.

use serde_json::Value;

use super::super::findings::{Findings, text};
use super::findings_at::{below, whole};
use super::names::Form;
use super::relations;
use crate::cli::check::quoted;

const PROFILES: &[&str] = &["RuntimeDefault", "Localhost", "Unconfined"];
const POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const TREATMENTS: &[&str] = &["Always", "IfNotPresent", "Never"];

/// Type, field, and the allowed words. The first is the suggestion.
const WORDS: &[(&str, &str, &[&str])] = &[
    ("Pod", "apiVersion", &["v1"]),
    ("PodSpec", "restartPolicy", POLICIES),
    (
        "PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    (
        "PodSpec",
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
    ),
    ("PodOS", "name", &["linux", "windows"]),
    ("Container", "imagePullPolicy", TREATMENTS),
    (
        "Container",
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
    ),
    ("Container", "restartPolicy", POLICIES),
    ("ContainerResizePolicy", "resourceName", &["memory", "cpu"]),
    (
        "ContainerResizePolicy",
        "restartPolicy",
        &["NotRequired", "RestartContainer"],
    ),
    ("ContainerPort", "protocol", &["TCP", "UDP", "SCTP"]),
    ("HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "HostPathVolumeSource",
        "type",
        &[
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ],
    ),
    ("ImageVolumeSource", "pullPolicy", TREATMENTS),
    ("SeccompProfile", "type", PROFILES),
    ("AppArmorProfile", "type", PROFILES),
    ("SecurityContext", "procMount", &["Default", "Unmasked"]),
    (
        "PodSecurityContext",
        "fsGroupChangePolicy",
        &["OnRootMismatch", "Always"],
    ),
    (
        "PodSecurityContext",
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
    ),
    (
        "PodSecurityContext",
        "seLinuxChangePolicy",
        &["MountOption", "Recursive"],
    ),
    (
        "VolumeMount",
        "mountPropagation",
        &["None", "HostToContainer", "Bidirectional"],
    ),
    (
        "VolumeMount",
        "recursiveReadOnly",
        &["Disabled", "IfPossible", "Enabled"],
    ),
    ("Toleration", "operator", &["Exists", "Equal", "Lt", "Gt"]),
    (
        "Toleration",
        "effect",
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    ),
];

/// Of these, an empty text is allowed too: it means the default.
const MAY_BE_EMPTY: [(&str, &str); 11] = [
    ("PodSpec", "restartPolicy"),
    ("PodSpec", "dnsPolicy"),
    ("Container", "imagePullPolicy"),
    ("Container", "terminationMessagePolicy"),
    ("ContainerPort", "protocol"),
    ("HTTPGetAction", "scheme"),
    ("HostPathVolumeSource", "type"),
    ("ImageVolumeSource", "pullPolicy"),
    ("Toleration", "operator"),
    ("Toleration", "effect"),
    ("PodSecurityContext", "seLinuxChangePolicy"),
];

const ANY: i64 = i64::MAX;
const LARGEST_ID: i64 = 2_147_483_647;
const LARGEST_PORT: i64 = 65535;

/// Type, field, and the least and the greatest number.
const RANGES: &[(&str, &str, i64, i64)] = &[
    ("ObjectMeta", "generation", 0, ANY),
    ("ObjectMeta", "deletionGracePeriodSeconds", 0, ANY),
    ("PodSpec", "activeDeadlineSeconds", 1, LARGEST_ID),
    ("ContainerPort", "containerPort", 1, LARGEST_PORT),
    ("ContainerPort", "hostPort", 0, LARGEST_PORT),
    ("GRPCAction", "port", 1, LARGEST_PORT),
    ("HTTPGetAction", "port", 1, LARGEST_PORT),
    ("TCPSocketAction", "port", 1, LARGEST_PORT),
    ("Probe", "initialDelaySeconds", 0, ANY),
    ("Probe", "timeoutSeconds", 0, ANY),
    ("Probe", "periodSeconds", 0, ANY),
    ("Probe", "successThreshold", 0, ANY),
    ("Probe", "failureThreshold", 0, ANY),
    ("Probe", "terminationGracePeriodSeconds", 1, ANY),
    ("SecurityContext", "runAsUser", 0, LARGEST_ID),
    ("SecurityContext", "runAsGroup", 0, LARGEST_ID),
    ("PodSecurityContext", "runAsUser", 0, LARGEST_ID),
    ("PodSecurityContext", "runAsGroup", 0, LARGEST_ID),
    ("PodSecurityContext", "fsGroup", 0, LARGEST_ID),
    ("PodSecurityContext", "supplementalGroups", 0, LARGEST_ID),
    ("EmptyDirVolumeSource", "mode", 0, 0o1777),
];

/// Type, field, and the form of its text, or of each text in its list.
const FORMS: &[(&str, &str, Form)] = &[
    ("ObjectMeta", "name", Form::Subdomain),
    ("ObjectMeta", "namespace", Form::Label),
    ("ObjectMeta", "finalizers", Form::Key),
    ("OwnerReference", "apiVersion", Form::Given),
    ("OwnerReference", "kind", Form::Given),
    ("OwnerReference", "name", Form::Given),
    ("OwnerReference", "uid", Form::Given),
    ("PodSpec", "hostname", Form::Label),
    ("PodSpec", "hostnameOverride", Form::Subdomain),
    ("PodSpec", "subdomain", Form::Label),
    ("PodSpec", "priorityClassName", Form::Subdomain),
    ("PodSpec", "runtimeClassName", Form::Subdomain),
    ("PodDNSConfig", "nameservers", Form::Address),
    ("HostAlias", "ip", Form::Address),
    ("HostAlias", "hostnames", Form::Subdomain),
    ("HostIP", "ip", Form::Address),
    ("Toleration", "key", Form::Key),
    ("ContainerPort", "name", Form::Port),
    ("HTTPGetAction", "port", Form::Port),
    ("TCPSocketAction", "port", Form::Port),
    ("HTTPHeader", "name", Form::Header),
    ("EnvVar", "name", Form::Variable),
    ("EnvFromSource", "prefix", Form::Variable),
    ("VolumeMount", "subPathExpr", Form::Down),
    ("NFSVolumeSource", "server", Form::Given),
    ("NFSVolumeSource", "path", Form::Given),
    ("SeccompProfile", "localhostProfile", Form::Down),
];

/// Of these, an empty text is refused as well; elsewhere it means the default.
const NEEDED: &[(&str, &str)] = &[
    ("OwnerReference", "apiVersion"),
    ("OwnerReference", "kind"),
    ("OwnerReference", "name"),
    ("OwnerReference", "uid"),
    ("ContainerPort", "containerPort"),
    ("GRPCAction", "port"),
    ("HTTPGetAction", "port"),
    ("TCPSocketAction", "port"),
    ("HTTPHeader", "name"),
    ("EnvVar", "name"),
    ("HostAlias", "ip"),
    ("PodOS", "name"),
    ("NFSVolumeSource", "server"),
    ("NFSVolumeSource", "path"),
    ("SeccompProfile", "type"),
    ("AppArmorProfile", "type"),
    ("ContainerResizePolicy", "resourceName"),
    ("ContainerResizePolicy", "restartPolicy"),
];

/// Checks a part of the pod that has the type `of`.
pub(super) fn check(of: &str, value: &Value, at: &str, findings: &mut Findings) {
    let known = |field: &str| value.get(field).filter(|value| !value.is_null());
    for (_, field) in NEEDED.iter().filter(|(one, _)| *one == of) {
        if known(field).is_none() {
            findings.error(
                format!(
                    "{} is missing: Kubernetes refuses the pod",
                    below(at, field)
                ),
                format!("write `{field}: …`, or remove what it belongs to"),
            );
        }
    }
    for (_, field, words) in WORDS.iter().filter(|(one, _, _)| *one == of) {
        if let Some(word) = text(value, field)
            && !words.contains(&word)
            && !(word.is_empty() && MAY_BE_EMPTY.contains(&(of, field)))
        {
            findings.error(
                format!(
                    "{} is {}, which Kubernetes refuses",
                    below(at, field),
                    quoted::word(word)
                ),
                format!("write one of {}", words.join(", ")),
            );
        }
    }
    for (_, field, least, greatest) in RANGES.iter().filter(|(one, _, _, _)| *one == of) {
        for number in known(field).into_iter().flat_map(each).filter_map(whole) {
            if !(*least..=*greatest).contains(&number) {
                let range = match *greatest {
                    ANY => format!("{least} or more"),
                    greatest => format!("{least} to {greatest}"),
                };
                findings.error(
                    format!("{} is {number}, which Kubernetes refuses", below(at, field)),
                    format!("write {range}"),
                );
            }
        }
    }
    for (_, field, form) in FORMS.iter().filter(|(one, _, _)| *one == of) {
        let texts = known(field).into_iter().flat_map(each);
        for text in texts.filter_map(Value::as_str) {
            let is_default = text.is_empty() && !NEEDED.contains(&(of, field));
            if !is_default && !form.fits(text) {
                findings.error(
                    format!(
                        "{} is {}, which Kubernetes refuses: {}",
                        below(at, field),
                        quoted::word(text),
                        form.expected()
                    ),
                    "change it, also where it is used",
                );
            }
        }
    }
    relations::check(of, value, at, findings);
}

/// A list's entries, or the value itself.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    let entries = value.as_array().map_or(&[] as &[_], Vec::as_slice);
    let alone = (!value.is_array()).then_some(value);
    alone.into_iter().chain(entries)
}
