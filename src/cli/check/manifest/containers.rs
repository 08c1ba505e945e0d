//! What the kubelet's validation says of a pod and of its containers: switches that
//! contradict each other, ports, and what only some containers may have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::findings::{is_set, list, text};
use super::findings_at::{FindingsAt, keys_and_values, whole};
use crate::cli::check::quoted;

pub(super) fn pod(spec: &Value, findings: &mut FindingsAt<'_>) {
    let is = |key: &str| spec.get(key).and_then(Value::as_bool) == Some(true);
    keys_and_values(spec, "nodeSelector", findings);
    for key in ["ephemeralContainers", "schedulingGates"] {
        if list(spec, key).next().is_some() {
            findings.error(key, "is not allowed in a static pod", "remove it");
        }
    }
    if list(spec, "containers").next().is_none() {
        findings.error("containers", "is empty", "name kube-apiserver's manifest");
    }
    if is("shareProcessNamespace") && is("hostPID") {
        findings.error("shareProcessNamespace", "contradicts hostPID", "remove it");
    }
    if is_set(spec, "hostnameOverride") && (is("hostNetwork") || is("setHostnameAsFQDN")) {
        let what = "contradicts hostNetwork or setHostnameAsFQDN";
        findings.error("hostnameOverride", what, "remove it");
    }
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    if spec.get("hostUsers").and_then(Value::as_bool) == Some(false) && shared.into_iter().any(is) {
        findings.error("hostUsers", "contradicts hostNetwork", "remove it");
    }
    let dns = spec.get("dnsConfig");
    let servers = dns.is_some_and(|dns| list(dns, "nameservers").next().is_some());
    if text(spec, "dnsPolicy") == Some("None") && !servers {
        findings.error(
            "dnsPolicy",
            "is None, and dnsConfig names no server",
            "remove it",
        );
    }
    let mut taken = BTreeSet::new();
    for one in list(spec, "containers") {
        ports_are_the_hosts(one, is("hostNetwork"), findings);
        host_ports(one, is("hostNetwork"), &mut taken, findings);
    }
    for one in list(spec, "initContainers") {
        // One after the other, so each has them all.
        host_ports(one, is("hostNetwork"), &mut BTreeSet::new(), findings);
        let is_sidecar = text(one, "restartPolicy") == Some("Always");
        for key in [
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            if is_set(one, key) && !is_sidecar {
                let name = quoted::name(text(one, "name").unwrap_or_default());
                let what = format!("has {key} in {name}, which has no `restartPolicy: Always`");
                findings.error("initContainers", &what, "add it to that container");
            }
        }
    }
}

/// Ports of the node, which only one may have.
fn host_ports<'a>(
    container: &'a Value,
    on_host: bool,
    taken: &mut BTreeSet<(&'a str, &'a str, i64)>,
    findings: &mut FindingsAt<'_>,
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
            findings.error("containers", &what, "remove one");
        }
    }
}

/// On the host's network, a port is the node's; asked of regular containers only.
fn ports_are_the_hosts(container: &Value, on_host: bool, findings: &mut FindingsAt<'_>) {
    for port in list(container, "ports").filter(|_| on_host) {
        let number = |key: &str| port.get(key).and_then(whole).filter(|number| *number != 0);
        if let Some(outside) = number("hostPort")
            && number("containerPort") != Some(outside)
        {
            let what = format!("has the hostPort {outside}, which is not the containerPort");
            findings.error("containers", &what, "remove hostPort: hostNetwork is true");
        }
    }
}

pub(super) fn container(container: &Value, findings: &mut FindingsAt<'_>) {
    let mut names = BTreeSet::new();
    for name in list(container, "ports").filter_map(|port| text(port, "name")) {
        if !name.is_empty() && !names.insert(name) {
            let what = format!("has two ports called {}", quoted::word(name));
            findings.error("ports", &what, "give each its own name");
        }
    }
    for key in ["livenessProbe", "startupProbe"] {
        let threshold = container
            .get(key)
            .and_then(|probe| probe.get("successThreshold"));
        if threshold.and_then(whole).is_some_and(|number| number > 1) {
            findings.error(key, "has a successThreshold that is not 1", "remove it");
        }
    }
    let readiness = container.get("readinessProbe");
    if readiness.is_some_and(|probe| is_set(probe, "terminationGracePeriodSeconds")) {
        let what = "has terminationGracePeriodSeconds, but does not kill the container";
        findings.error(
            "readinessProbe",
            what,
            "remove terminationGracePeriodSeconds",
        );
    }
    if list(container, "volumeDevices").next().is_some() {
        let fix = "remove it: a static pod has no block volumes";
        findings.error("volumeDevices", "names no volume of the pod", fix);
    }
    let is_privileged = container
        .pointer("/securityContext/privileged")
        .and_then(Value::as_bool)
        == Some(true);
    for mount in list(container, "volumeMounts") {
        if text(mount, "mountPropagation") == Some("Bidirectional") && !is_privileged {
            let what = "has mountPropagation Bidirectional, and the container is not privileged";
            findings.error("volumeMounts", what, "remove mountPropagation");
        }
    }
}
