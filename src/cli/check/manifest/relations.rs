//! What the kubelet's validation says of values that stand together: of which one is wanted,
//! or which contradict each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::findings::{Findings, is_set, list, text};
use super::names::Form;
use super::types::{below, whole};
use super::{quantity, quoted};

const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

const SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// What a variable may be of the pod; of labels and annotations, each.
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

/// What a container can be given or limited to, without a name of somebody's own.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Where rules report to.
struct Here<'a> {
    at: &'a str,
    findings: &'a mut Findings,
}

impl Here<'_> {
    fn wrong(&mut self, field: &str, what: &str, fix: &str) {
        let at = if field.is_empty() {
            self.at.to_owned()
        } else {
            below(self.at, field)
        };
        self.findings
            .wrong(format!("{at} {what}: the kubelet refuses the pod"), fix);
    }
}

pub(super) fn judge(of: &str, value: &Value, at: &str, findings: &mut Findings) {
    let mut here = Here { at, findings };
    match of {
        "ObjectMeta" => keys_and_values(value, "labels", &mut here),
        "PodSpec" => pod(value, &mut here),
        "Container" => container(value, &mut here),
        "Probe" | "LifecycleHandler" => one_of(value, HANDLERS, &mut here),
        "Lifecycle" => {
            if is_set(value, "stopSignal") {
                here.wrong("stopSignal", "needs spec.os.name", "remove it");
            }
        }
        "ExecAction" => {
            if list(value, "command").next().is_none() {
                here.wrong("command", "is empty", "write one word in each line");
            }
        }
        "EnvVar" => {
            let is_filled = text(value, "value").is_some_and(|text| !text.is_empty());
            if is_filled && is_set(value, "valueFrom") {
                here.wrong("", "has both value and valueFrom", "keep one");
            }
        }
        "EnvVarSource" => one_of(value, SOURCES, &mut here),
        "EnvFromSource" => one_of(value, &["secretRef", "configMapRef"], &mut here),
        "ObjectFieldSelector" => field_of_the_pod(value, &mut here),
        "ResourceFieldSelector" => {
            let resource = text(value, "resource").unwrap_or_default();
            let known = resource.split_once('.').is_some_and(|(kind, name)| {
                ["limits", "requests"].contains(&kind)
                    && (RESOURCES.contains(&name) || name.starts_with("hugepages-"))
            });
            if !known {
                here.wrong(
                    "resource",
                    "is not known",
                    "write limits.memory or the like",
                );
            }
        }
        "ResourceRequirements" => resources(value, &mut here),
        "SecurityContext" => security(value, &mut here),
        "SeccompProfile" | "AppArmorProfile" => {
            let is_local = text(value, "type") == Some("Localhost");
            let profile = text(value, "localhostProfile").map(str::trim);
            let is_empty = profile.is_none_or(str::is_empty) && of == "AppArmorProfile";
            if is_local && (profile.is_none() || is_empty) {
                here.wrong("localhostProfile", "is missing", "name the profile's file");
            } else if !is_local && profile.is_some() {
                let fix = "remove it, or write `type: Localhost`";
                here.wrong("localhostProfile", "is for type Localhost", fix);
            }
        }
        "VolumeMount" => mount(value, &mut here),
        "EmptyDirVolumeSource" => {
            let limit = value.get("sizeLimit").and_then(quantity::value);
            if limit.is_some_and(|limit| limit < 0.0) {
                here.wrong("sizeLimit", "is negative", "write `sizeLimit: 1Mi`");
            }
        }
        "Toleration" => toleration(value, &mut here),
        "NFSVolumeSource" => {
            if text(value, "path").is_some_and(|path| !path.starts_with('/')) {
                here.wrong("path", "does not begin with `/`", "write the whole path");
            }
        }
        _ => {}
    }
}

fn one_of(value: &Value, keys: &[&str], here: &mut Here<'_>) {
    let given: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| is_set(value, key))
        .collect();
    if given.is_empty() {
        let fix = format!("write one of {}", keys.join(", "));
        here.wrong("", "says nothing that the kubelet knows", &fix);
    } else if given.len() > 1 {
        here.wrong(
            "",
            &format!("has {}", given.join(" and ")),
            "keep one of them",
        );
    }
}

fn keys_and_values(value: &Value, labels: &str, here: &mut Here<'_>) {
    let pairs = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, label) in pairs(labels) {
        let label = label.as_str().unwrap_or_default();
        if !Form::Key.fits(key) || !Form::LabelValue.fits(label) {
            let what = format!(
                "has the label {}, {}",
                quoted::word(key),
                quoted::word(label)
            );
            here.wrong(labels, &what, Form::LabelValue.wanted());
        }
    }
    for (key, _) in pairs("annotations") {
        if !Form::Key.fits(&key.to_lowercase()) {
            let what = format!("has the key {}", quoted::word(key));
            here.wrong("annotations", &what, Form::Key.wanted());
        }
    }
}

fn pod(spec: &Value, here: &mut Here<'_>) {
    let is = |key: &str| spec.get(key).and_then(Value::as_bool) == Some(true);
    keys_and_values(spec, "nodeSelector", here);
    for key in ["ephemeralContainers", "schedulingGates"] {
        if list(spec, key).next().is_some() {
            here.wrong(key, "is not for pods of files", "remove it");
        }
    }
    if list(spec, "containers").next().is_none() {
        here.wrong("containers", "is empty", "name kube-apiserver's manifest");
    }
    if is("shareProcessNamespace") && is("hostPID") {
        here.wrong("shareProcessNamespace", "contradicts hostPID", "remove it");
    }
    if is_set(spec, "hostnameOverride") && (is("hostNetwork") || is("setHostnameAsFQDN")) {
        let what = "contradicts hostNetwork or setHostnameAsFQDN";
        here.wrong("hostnameOverride", what, "remove it");
    }
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    if spec.get("hostUsers").and_then(Value::as_bool) == Some(false) && shared.into_iter().any(is) {
        here.wrong("hostUsers", "contradicts hostNetwork", "remove it");
    }
    let dns = spec.get("dnsConfig");
    let servers = dns.is_some_and(|dns| list(dns, "nameservers").next().is_some());
    if text(spec, "dnsPolicy") == Some("None") && !servers {
        here.wrong(
            "dnsPolicy",
            "is None, and dnsConfig names no server",
            "remove it",
        );
    }
    let mut taken = BTreeSet::new();
    for one in list(spec, "containers") {
        ports_are_the_hosts(one, is("hostNetwork"), here);
        host_ports(one, is("hostNetwork"), &mut taken, here);
    }
    for one in list(spec, "initContainers") {
        // One after the other, so each has them all.
        host_ports(one, is("hostNetwork"), &mut BTreeSet::new(), here);
        let is_sidecar = text(one, "restartPolicy") == Some("Always");
        for key in [
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            if is_set(one, key) && !is_sidecar {
                let what = format!("has {key} in a container that is to end");
                here.wrong("initContainers", &what, "write `restartPolicy: Always`");
            }
        }
    }
}

/// Ports of the node, which only one may have.
fn host_ports<'a>(
    container: &'a Value,
    on_host: bool,
    taken: &mut BTreeSet<(&'a str, &'a str, i64)>,
    here: &mut Here<'_>,
) {
    for port in list(container, "ports") {
        let number = |key: &str| port.get(key).and_then(whole).filter(|number| *number != 0);
        let inside = number("containerPort");
        let outside = number("hostPort").or(inside.filter(|_| on_host));
        let Some(outside) = outside else { continue };
        let protocol = text(port, "protocol").filter(|one| !one.is_empty());
        let key = (
            protocol.unwrap_or("TCP"),
            text(port, "hostIP").unwrap_or_default(),
            outside,
        );
        if !taken.insert(key) {
            let what = format!("has the port {outside} of the node twice");
            here.wrong("containers", &what, "remove one");
        }
    }
}

/// On the host's network, a port is the node's; asked of regular containers only.
fn ports_are_the_hosts(container: &Value, on_host: bool, here: &mut Here<'_>) {
    for port in list(container, "ports").filter(|_| on_host) {
        let number = |key: &str| port.get(key).and_then(whole).filter(|number| *number != 0);
        if let Some(outside) = number("hostPort")
            && number("containerPort") != Some(outside)
        {
            let what = format!("has the hostPort {outside}, which is not the containerPort");
            here.wrong("containers", &what, "remove hostPort: hostNetwork is true");
        }
    }
}

fn container(container: &Value, here: &mut Here<'_>) {
    let mut names = BTreeSet::new();
    for name in list(container, "ports").filter_map(|port| text(port, "name")) {
        if !name.is_empty() && !names.insert(name) {
            let what = format!("has two ports called {}", quoted::word(name));
            here.wrong("ports", &what, "give each a name of its own");
        }
    }
    for key in ["livenessProbe", "startupProbe"] {
        let threshold = container
            .get(key)
            .and_then(|probe| probe.get("successThreshold"));
        if threshold.and_then(whole).is_some_and(|number| number > 1) {
            here.wrong(key, "has a successThreshold that is not 1", "remove it");
        }
    }
    let readiness = container.get("readinessProbe");
    if readiness.is_some_and(|probe| is_set(probe, "terminationGracePeriodSeconds")) {
        let what = "has terminationGracePeriodSeconds, and kills nobody";
        here.wrong(
            "readinessProbe",
            what,
            "remove terminationGracePeriodSeconds",
        );
    }
    if list(container, "volumeDevices").next().is_some() {
        let fix = "remove it: a static pod has no block volumes";
        here.wrong("volumeDevices", "names no volume of the pod", fix);
    }
    let is_privileged = container
        .pointer("/securityContext/privileged")
        .and_then(Value::as_bool)
        == Some(true);
    for mount in list(container, "volumeMounts") {
        if text(mount, "mountPropagation") == Some("Bidirectional") && !is_privileged {
            let what = "has mountPropagation Bidirectional, and the container is not privileged";
            here.wrong("volumeMounts", what, "remove mountPropagation");
        }
    }
}

fn mount(mount: &Value, here: &mut Here<'_>) {
    let filled = |key: &str| text(mount, key).is_some_and(|text| !text.is_empty());
    if filled("subPath") && filled("subPathExpr") {
        here.wrong("", "has both subPath and subPathExpr", "keep one");
    }
    let recursive = text(mount, "recursiveReadOnly");
    if recursive.is_some_and(|word| ["IfPossible", "Enabled"].contains(&word)) {
        let is_read_only = mount.get("readOnly").and_then(Value::as_bool) == Some(true);
        let propagates = text(mount, "mountPropagation").is_some_and(|word| word != "None");
        if !is_read_only || propagates {
            let what = "needs readOnly, and no mountPropagation";
            here.wrong("recursiveReadOnly", what, "remove recursiveReadOnly");
        }
    }
    let mut known = BTreeSet::new();
    for option in list(mount, "bindMountOptions").filter_map(Value::as_str) {
        if !["noexec", "nodev", "nosuid"].contains(&option) || !known.insert(option) {
            let what = format!("has {}, or twice", quoted::word(option));
            here.wrong("bindMountOptions", &what, "write noexec, nodev, nosuid");
        }
    }
}

fn field_of_the_pod(value: &Value, here: &mut Here<'_>) {
    let path = text(value, "fieldPath").unwrap_or_default();
    let entry = |of: &str| path.starts_with(&format!("metadata.{of}['")) && path.ends_with("']");
    if !FIELDS.contains(&path) && !entry("labels") && !entry("annotations") {
        let fix = format!("write one of {}", FIELDS.join(", "));
        here.wrong("fieldPath", "is none that a variable can be", &fix);
    }
    let version = text(value, "apiVersion").unwrap_or_default();
    if !["", "v1"].contains(&version) {
        here.wrong("apiVersion", "is not v1", "remove it");
    }
}

fn resources(value: &Value, here: &mut Here<'_>) {
    let of = |kind: &str| value.get(kind).and_then(Value::as_object);
    for kind in ["limits", "requests"] {
        for (name, amount) in of(kind).into_iter().flatten() {
            let is_huge = name.starts_with("hugepages-");
            let is_native = RESOURCES.contains(&name.as_str()) || is_huge;
            let is_own = name.contains('/') && Form::Key.fits(name);
            if !is_native && !is_own {
                let what = format!("has {}, which is nothing to give", quoted::word(name));
                here.wrong(kind, &what, "write cpu, memory or ephemeral-storage");
            }
            let Some(amount) = quantity::value(amount) else {
                continue;
            };
            if amount < 0.0 || (is_own && amount.fract() != 0.0) {
                let what = format!("has {} with an amount that nobody has", quoted::word(name));
                here.wrong(kind, &what, "write an amount above zero");
            }
            let limit = of("limits").and_then(|all| all.get(name));
            let limit = limit.and_then(quantity::value);
            let is_shared = is_native && !is_huge;
            let exceeds = limit.is_some_and(|limit| amount > limit);
            let differs = !is_shared && limit != Some(amount);
            if kind == "requests" && (exceeds || differs) {
                let what = format!("has more {} than limits has", quoted::word(name));
                here.wrong(kind, &what, "raise the limit, or lower the request");
            }
        }
    }
    if list(value, "claims").next().is_some() {
        here.wrong("claims", "names claims of the API", "remove it");
    }
}

fn security(value: &Value, here: &mut Here<'_>) {
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
        here.wrong("allowPrivilegeEscalation", what, "remove one of them");
    }
}

fn toleration(value: &Value, here: &mut Here<'_>) {
    let of = |key: &str| text(value, key).unwrap_or_default();
    let (operator, word) = (of("operator"), of("value"));
    let fits = match operator {
        "Exists" => word.is_empty(),
        "Lt" | "Gt" => word.parse::<i64>().is_ok(),
        _ => Form::LabelValue.fits(word),
    };
    if !fits {
        let fix = "remove value, or write `operator: Equal`";
        here.wrong("value", "does not fit the operator", fix);
    }
    if of("key").is_empty() && operator != "Exists" {
        here.wrong("operator", "must be Exists without a key", "write Exists");
    }
    if is_set(value, "tolerationSeconds") && of("effect") != "NoExecute" {
        let fix = "remove tolerationSeconds";
        here.wrong("effect", "must be NoExecute with tolerationSeconds", fix);
    }
}
