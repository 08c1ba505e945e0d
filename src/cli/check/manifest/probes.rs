//! The sidecar's probes: one that asks what nothing answers kills it, and with it the key
//! that it holds in memory.

use std::ffi::OsString;
use std::net::IpAddr;

use serde_json::Value;

use super::super::findings::{Findings, is_set, list, text};
use super::pod::Container;
use super::sidecar::{Called, Served, Understand, lacks};
use crate::cli::check::quoted;

/// What is served on `--metrics-address`.
const PAGES: [&str; 3] = ["/metrics", "/livez", "/readyz"];

/// What the kubelet waits for an answer when nothing is said.
const KUBELET_SECONDS: u64 = 1;

const EXEC: &str = "probe with exec: [/bin/barbican-kms, probe, --socketpath=PATH]";

/// Why a probe does not do what it should.
enum Fault {
    /// It fails, always.
    Fails(String),
    /// It fails without a key.
    AsksForAKey,
    /// It works, or may.
    Doubt(String),
}

pub(super) fn they_ask_what_is_answered(
    sidecar: Container<'_>,
    served: &Served,
    understand: Option<Understand>,
    findings: &mut Findings,
) {
    for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let Some(probe) = sidecar.value.get(name).filter(|probe| !probe.is_null()) else {
            continue;
        };
        match fault(sidecar, probe, served, understand) {
            Some(Fault::Fails(why)) if name == "readinessProbe" => findings.warn(format!(
                "the sidecar's readinessProbe always fails, so the pod is never ready: {why}"
            )),
            Some(Fault::Fails(why)) => findings.error(
                format!(
                    "the sidecar's {name} always fails, and each time the kubelet kills the \
                     sidecar, which loses the key: {why}"
                ),
                EXEC,
            ),
            Some(Fault::AsksForAKey) if name == "startupProbe" => findings.error(
                "the sidecar's startupProbe needs a loaded key: without OpenStack, kube-apiserver \
                 is never started, and OpenStack may run in this cluster",
                "remove the startupProbe: the sidecar listens within milliseconds",
            ),
            Some(Fault::AsksForAKey) if name == "livenessProbe" => findings.error(
                "the sidecar's livenessProbe needs a loaded key: an outage of OpenStack would \
                 restart the sidecar, and a restart loses the held key",
                "probe without --ready and --deep, and by HTTP /livez",
            ),
            Some(Fault::Doubt(doubt)) => findings.warn(format!("the sidecar's {name}: {doubt}")),
            Some(Fault::AsksForAKey) | None => {}
        }
        if name == "startupProbe" {
            findings.warn(
                "the sidecar has a startupProbe: with kubelets of 1.35.0 to 1.35.2, \
                 kube-apiserver is not started again when it ends after a restart of the kubelet",
            );
        }
    }
}

fn fault(
    sidecar: Container<'_>,
    probe: &Value,
    served: &Served,
    understand: Option<Understand>,
) -> Option<Fault> {
    if let Some(exec) = probe.get("exec").filter(|one| !one.is_null()) {
        return exec_fault(sidecar, probe, exec, served, understand);
    }
    if let Some(get) = probe.get("httpGet").filter(|one| !one.is_null()) {
        return http_fault(sidecar, get, served);
    }
    if let Some(socket) = probe.get("tcpSocket").filter(|one| !one.is_null()) {
        return address_fault(sidecar, socket, served).map(Fault::Fails);
    }
    is_set(probe, "grpc").then(|| {
        Fault::Fails(
            "gRPC is served on the unix socket, but the kubelet connects to a port".to_owned(),
        )
    })
}

fn exec_fault(
    sidecar: Container<'_>,
    probe: &Value,
    exec: &Value,
    served: &Served,
    understand: Option<Understand>,
) -> Option<Fault> {
    let words = sidecar.words(exec, "command");
    let program = words.first().map(String::as_str).unwrap_or_default();
    if let Some(problem) = lacks(program) {
        return Some(Fault::Fails(problem));
    }
    let called = understand?(words.iter().map(OsString::from).collect());
    let (socket, timeout_ms) = match called {
        Err(problem) => return Some(Fault::Fails(quoted::sentence(&problem))),
        Ok(Called::Probe {
            asks_for_a_key: true,
            ..
        }) => return Some(Fault::AsksForAKey),
        Ok(Called::Probe {
            socketpath,
            timeout_ms,
            ..
        }) => (socketpath, timeout_ms),
        Ok(Called::Status { socketpath }) => (socketpath, 0),
        Ok(Called::Serve(_)) => {
            return Some(Fault::Fails(
                "it starts a second server, but the socket is in use".to_owned(),
            ));
        }
        Ok(Called::Other) => {
            return Some(Fault::Doubt(format!(
                "it does not call the sidecar: {EXEC}"
            )));
        }
    };
    let socket = socket.to_string_lossy();
    let same = sidecar.place(&socket).is_some_and(|asked| {
        sidecar
            .place(&served.socketpath)
            .is_some_and(|listens| listens == asked)
    });
    if !same {
        return Some(Fault::Fails(format!(
            "it calls {}, but the sidecar listens on {}",
            quoted::path(&socket),
            quoted::path(&served.socketpath)
        )));
    }
    let seconds = probe.get("timeoutSeconds").and_then(Value::as_u64);
    let seconds = seconds.filter(|one| *one > 0).unwrap_or(KUBELET_SECONDS);
    (seconds.saturating_mul(1000) < timeout_ms).then(|| {
        Fault::Doubt(format!(
            "timeoutSeconds is {seconds}, but the probe itself waits {timeout_ms} ms: write \
             `timeoutSeconds: 10`"
        ))
    })
}

fn http_fault(sidecar: Container<'_>, get: &Value, served: &Served) -> Option<Fault> {
    if let Some(problem) = address_fault(sidecar, get, served) {
        return Some(Fault::Fails(problem));
    }
    if text(get, "scheme").is_some_and(|scheme| scheme != "HTTP") {
        return Some(Fault::Fails(
            "--metrics-address serves plain HTTP".to_owned(),
        ));
    }
    let path = text(get, "path").unwrap_or("/");
    let path = path.split('?').next().unwrap_or_default();
    if !PAGES.contains(&path) {
        return Some(Fault::Fails(format!(
            "{} is not served; available are {}",
            quoted::path(path),
            PAGES.join(", ")
        )));
    }
    (path == "/readyz").then_some(Fault::AsksForAKey)
}

/// Why nobody answers where the kubelet asks. By itself it asks the pod's address, which
/// on the host's network is the node's and not 127.0.0.1.
fn address_fault(sidecar: Container<'_>, action: &Value, served: &Served) -> Option<String> {
    let Some(address) = served.metrics_address else {
        return Some("the sidecar has no --metrics-address, so it listens on no port".to_owned());
    };
    let port = port_of(sidecar, action.get("port"));
    if port != Some(u64::from(address.port())) {
        return Some(format!(
            "it calls port {}, but --metrics-address is {address}",
            port.map_or_else(|| "of no known name".to_owned(), |port| port.to_string())
        ));
    }
    let host = text(action, "host").filter(|host| !host.is_empty());
    let host = host.map(|host| {
        if host == "localhost" {
            "127.0.0.1"
        } else {
            host
        }
    });
    let asked: Option<IpAddr> = host.and_then(|host| host.parse().ok());
    let served_at = address.ip();
    match (host, asked) {
        (None, _) if served_at.is_loopback() => Some(format!(
            "without `host` it calls the pod's address, but --metrics-address is {address}"
        )),
        (Some(host), Some(asked))
            if asked.is_loopback()
                && !sidecar.pod.on_host_network()
                && !served_at.is_unspecified() =>
        {
            Some(format!(
                "{} is the node's, but the pod has its own network",
                quoted::name(host)
            ))
        }
        (Some(host), Some(asked)) if asked != served_at && !served_at.is_unspecified() => {
            Some(format!(
                "it calls {}, but --metrics-address is {address}",
                quoted::name(host)
            ))
        }
        _ => None,
    }
}

/// A number, or the name of one of the container's ports.
fn port_of(sidecar: Container<'_>, port: Option<&Value>) -> Option<u64> {
    let port = port?;
    let name = port.as_str();
    port.as_u64().or_else(|| name?.parse().ok()).or_else(|| {
        let ports = &mut list(sidecar.value, "ports");
        let named = ports.find(|one| text(one, "name") == name)?;
        named.get("containerPort")?.as_u64()
    })
}
