//! The sidecar's container: its kind, program, arguments, image and limits.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::super::findings::{Findings, list, text};
use super::flags::Flags;
use super::pod::{Container, Pod};
use super::quantity;
use crate::cli::check::quoted;

/// What a command line of ours runs, as far as the check of a manifest needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// `serve`, or flags alone.
    Serve(Served),
    /// `probe`.
    Probe {
        /// `--socketpath`.
        socketpath: PathBuf,
        /// `--ready` or `--deep`.
        asks_for_a_key: bool,
        /// `--timeout-ms`.
        timeout_ms: u64,
    },
    /// `status`, which succeeds if the sidecar answers.
    Status {
        /// `--socketpath`.
        socketpath: PathBuf,
    },
    /// Anything else.
    Other,
}

/// The arguments of `serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// `--socketpath`.
    pub socketpath: String,
    /// `--cloud-config`.
    pub cloud_config: String,
    /// `--socket-mode`.
    pub socket_mode: u32,
    /// `--socket-group`.
    pub socket_group: Option<u32>,
    /// `--metrics-address`.
    pub metrics_address: Option<SocketAddr>,
    /// `--audit-log`.
    pub audit_log: Option<String>,
}

/// Reads a command line of ours, the program's name first; the text says why not.
pub type Understand = fn(Vec<OsString>) -> Result<Called, String>;

/// What the image has.
const PROGRAMS: [&str; 4] = [
    "/bin/barbican-kms",
    "/bin/barbican-kms-plugin",
    "barbican-kms",
    "barbican-kms-plugin",
];

/// Below this the sidecar is killed. tests/static-pod measures 8 MiB resident; TLS and
/// a reload need more.
const MEMORY_NEEDED: f64 = 16.0 * 1_048_576.0;
/// Below this, a long list of keys or a burst of requests may not fit.
const MEMORY_WISE: f64 = 32.0 * 1_048_576.0;
/// The kernel's smallest share; an answer then takes longer than kube-apiserver waits.
const CPU_NEEDED: f64 = 0.01;
const CPU_WISE: f64 = 0.1;

/// Finds the sidecar's container, first among the init containers.
pub(super) fn find<'a>(pod: Pod<'a>, findings: &mut Findings) -> Option<Container<'a>> {
    let ours: Vec<Container<'a>> = pod.containers().filter(|one| is_ours(*one)).collect();
    let found = *ours.first()?;
    for other in ours.iter().skip(1) {
        findings.warn(format!(
            "container {} seems to be a second sidecar: {} is checked here",
            quoted::name(other.name()),
            quoted::name(found.name())
        ));
    }
    Some(found)
}

fn is_ours(container: Container<'_>) -> bool {
    let ours = |text: &str| text.contains("barbican-kms");
    let mut words = container.command();
    words.extend(container.args());
    !container.is_server()
        && (ours(container.name())
            || ours(container.image())
            || words
                .iter()
                .any(|word| ours(word) || word.contains("--socketpath")))
}

pub(super) fn it_outlives_kube_apiserver(sidecar: Container<'_>, findings: &mut Findings) {
    if !sidecar.is_init {
        findings.warn(
            "the sidecar is a regular container: it is stopped together with kube-apiserver, which \
             still needs it while it drains. Make it an init container with `restartPolicy: Always`",
        );
    } else if text(sidecar.value, "restartPolicy") != Some("Always") {
        findings.error(
            "the sidecar is an init container without `restartPolicy: Always`: kube-apiserver \
             waits forever for it to end",
            "add `restartPolicy: Always` to the init container",
        );
    }
}

/// Why a program cannot be run in our image.
pub(super) fn lacks(program: &str) -> Option<String> {
    let known = PROGRAMS.contains(&program);
    let what = match program.rsplit('/').next().unwrap_or_default() {
        "sh" | "bash" | "ash" | "dash" | "zsh" => "no shell",
        _ => "only /bin/barbican-kms",
    };
    (!known).then(|| {
        format!(
            "{} cannot be run: the image has {what}",
            quoted::path(program)
        )
    })
}

/// The complete command line: the image's entrypoint, or `command`; then `args`.
fn command_line(sidecar: Container<'_>) -> Vec<String> {
    let mut words = sidecar.command();
    if words.is_empty() {
        words.push("/bin/barbican-kms".to_owned());
    }
    words.extend(sidecar.args());
    words
}

/// What the sidecar serves. Flags that can be read are used even if the command line is refused.
pub(super) fn it_can_be_started(
    sidecar: Container<'_>,
    understand: Option<Understand>,
    findings: &mut Findings,
) -> Served {
    let words = command_line(sidecar);
    let flags = Flags::read(&words);
    let of = |name: &str| flags.value(name).unwrap_or_default().to_owned();
    let raw = Served {
        socketpath: of("socketpath"),
        cloud_config: of("cloud-config"),
        socket_mode: 0o600,
        ..Served::default()
    };
    let program = words.first().map(String::as_str).unwrap_or_default();
    if let Some(problem) = lacks(program) {
        findings.error(
            format!("the sidecar does not start: {problem}"),
            "remove `command`, and give `serve` and its flags as `args`, one word per line",
        );
        return raw;
    }
    let Some(understand) = understand else {
        return raw;
    };
    match understand(words.iter().map(OsString::from).collect()) {
        Ok(Called::Serve(served)) => served,
        Ok(_) => {
            findings.error(
                "the sidecar's arguments do not start `serve`",
                "begin `args` with `serve`",
            );
            raw
        }
        Err(problem) => {
            findings.error(
                format!(
                    "the sidecar refuses its arguments, exit code 64: {}",
                    quoted::sentence(&problem)
                ),
                "correct `args`; `barbican-kms serve --help` names all flags",
            );
            raw
        }
    }
}

/// Names of groups are looked up in a file that the image does not have.
pub(super) fn its_group_is_a_number(sidecar: Container<'_>, findings: &mut Findings) {
    let flags = Flags::read(&command_line(sidecar));
    if let Some(group) = flags.value("socket-group")
        && group.parse::<u32>().is_err()
    {
        findings.error(
            format!(
                "--socket-group is {}, and the image has no /etc/group",
                quoted::word(group)
            ),
            "give the group's number",
        );
    }
}

pub(super) fn its_image_stays(sidecar: Container<'_>, findings: &mut Findings) {
    let image = sidecar.image();
    let name = image.rsplit('/').next().unwrap_or_default();
    let (_, tag) = name.split_once(':').unwrap_or((name, "latest"));
    if !image.contains('@') && tag == "latest" {
        findings.warn(format!(
            "the image {} has the tag latest, which can change: name a version or a digest",
            quoted::name(image)
        ));
    }
    if text(sidecar.value, "imagePullPolicy") == Some("Always") {
        findings.warn(
            "imagePullPolicy is Always: while the registry cannot be reached, the sidecar does not \
             start. Write IfNotPresent",
        );
    }
}

pub(super) fn its_limits_suffice(sidecar: Container<'_>, findings: &mut Findings) {
    let limits = |of: &'static str, spec: &'_ Value| {
        let limit = spec.pointer("/resources/limits")?.get(of)?;
        quantity::value(limit)
    };
    let pod = sidecar.pod.spec;
    let memory = limits("memory", sidecar.value).or(limits("memory", pod));
    match memory {
        Some(bytes) if bytes < MEMORY_NEEDED => findings.error(
            format!(
                "the sidecar's memory limit is {bytes} bytes: it is killed, which loses the key"
            ),
            "write `memory: 64Mi`",
        ),
        Some(bytes) if bytes < MEMORY_WISE => findings.warn(format!(
            "the sidecar's memory limit is {bytes} bytes: 64Mi leaves room for bursts"
        )),
        _ => {}
    }
    match limits("cpu", sidecar.value).or(limits("cpu", pod)) {
        Some(cpu) if cpu < CPU_NEEDED => findings.error(
            format!("the sidecar's CPU limit is {cpu}: it answers too late for kube-apiserver"),
            "remove the CPU limit",
        ),
        Some(cpu) if cpu < CPU_WISE => findings.warn(format!(
            "the sidecar's CPU limit is {cpu}: throttling slows down kube-apiserver. Remove it"
        )),
        _ => {}
    }
}

pub(super) fn its_metrics_stay_on_the_node(pod: Pod<'_>, served: &Served, findings: &mut Findings) {
    if let Some(address) = served.metrics_address
        && address.ip().is_unspecified()
        && pod.on_host_network()
    {
        findings.warn(format!(
            "--metrics-address {address}: the pod uses the host network, so anybody who can reach \
             the node can read the metrics"
        ));
    }
}

pub(super) fn the_network_is_the_nodes(pod: Pod<'_>, findings: &mut Findings) {
    if !pod.on_host_network() {
        findings.warn(
            "the pod does not use the host network: it needs a network plugin, which needs the API \
             server. Write `hostNetwork: true`",
        );
    } else if text(pod.spec, "dnsPolicy") == Some("ClusterFirstWithHostNet") {
        findings.warn(
            "dnsPolicy is ClusterFirstWithHostNet: the sidecar resolves the names of OpenStack \
             with the cluster's DNS, which needs the API server. Remove it",
        );
    }
    if text(pod.spec, "restartPolicy").is_some_and(|policy| policy != "Always") {
        findings.warn(
            "restartPolicy of the pod is not Always: kube-apiserver is not restarted after \
                   it exits",
        );
    }
}

/// A hook that fails ends the container.
pub(super) fn its_hooks_can_run(sidecar: Container<'_>, findings: &mut Findings) {
    let hooks = sidecar.value.get("lifecycle").and_then(Value::as_object);
    for (hook, action) in hooks.into_iter().flatten() {
        if let Some(exec) = action.get("exec") {
            let words: Vec<&str> = list(exec, "command").filter_map(Value::as_str).collect();
            if let Some(problem) = words.first().and_then(|program| lacks(program)) {
                findings.error(
                    format!("{} of the sidecar fails: {problem}", quoted::name(hook)),
                    "remove that hook",
                );
            }
        } else if action.get("httpGet").is_some_and(|get| !get.is_null()) {
            findings.error(
                format!(
                    "{} of the sidecar uses HTTP before anything can answer",
                    quoted::name(hook)
                ),
                "remove that hook",
            );
        }
    }
}
