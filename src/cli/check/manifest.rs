//! kube-apiserver's static pod with the sidecar in it: the classic mistakes.
//!
//! Pure; `check` reads the file. What a path means depends on the container: both must
//! reach the socket through the same volume.

use std::path::Path;

use serde_json::Value;

use super::findings::{Findings, list, text};

/// A container's view of one volume.
struct Mount<'a> {
    path: &'a str,
    volume: &'a str,
    below: &'a str,
}

/// Where a path of a container leads: a volume, and the place in it.
#[derive(Debug, PartialEq)]
struct Place {
    volume: String,
    path: String,
}

/// Where kube-apiserver is told of its EncryptionConfiguration.
const ENCRYPTION_FLAG: &str = "--encryption-provider-config";

/// Goes through a manifest; `sockets` are those of the EncryptionConfiguration, and
/// `checked` is the absolute path of that, when there is one.
pub(super) fn judge(pod: &Value, sockets: &[String], checked: Option<&Path>) -> Findings {
    let mut findings = Findings::default();
    if text(pod, "kind") != Some("Pod") {
        findings.wrong(
            "this is no Pod",
            "name kube-apiserver's manifest with --manifest",
        );
        return findings;
    }
    let none = Value::Null;
    let spec = pod.get("spec").unwrap_or(&none);
    volumes(spec, &mut findings);
    let server = list(spec, "containers").find(|one| text(one, "name") == Some("kube-apiserver"));
    let Some(server) = server else {
        findings.wrong(
            "there is no container kube-apiserver in it",
            "name kube-apiserver's manifest with --manifest",
        );
        return findings;
    };
    encryption_flag(server, &mut findings);
    if let Some(checked) = checked {
        checked_file(spec, server, checked, &mut findings);
    }
    let Some(sidecar) = sidecar(spec, &mut findings) else {
        findings.wrong(
            "there is no barbican-kms container in it",
            "add it with the patch in static-pod/kubeadm/patches; after `kubeadm upgrade` \
             without --patches it is gone",
        );
        return findings;
    };
    probes(sidecar, &mut findings);
    file_of(sidecar, "--cloud-config", "the sidecar", &mut findings);
    socket(server, sidecar, sockets, &mut findings);
    if let Some(address) = flag(sidecar, "--metrics-address")
        && (address.starts_with("0.0.0.0") || address.starts_with("[::]"))
    {
        findings.doubt(format!(
            "--metrics-address {address}: the pod uses the host's network, so anybody who reaches \
             the node can read metrics"
        ));
    }
    findings
}

/// Whether kubeadm has written the manifest, and so will write it again.
pub(super) fn is_kubeadms(pod: &Value) -> bool {
    let annotations = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    annotations.is_some_and(|all| {
        all.keys()
            .any(|key| key.starts_with("kubeadm.kubernetes.io/"))
    })
}

fn volumes(spec: &Value, findings: &mut Findings) {
    const OF_THE_API: [&str; 4] = ["secret", "configMap", "projected", "persistentVolumeClaim"];
    for volume in list(spec, "volumes") {
        let name = text(volume, "name").unwrap_or("without a name");
        if let Some(kind) = OF_THE_API.iter().find(|kind| volume.get(**kind).is_some()) {
            findings.wrong(
                format!("volume {name} is a {kind}: a static pod cannot have one"),
                "keep the files on the node and mount their directory as hostPath",
            );
        }
    }
    let declared = |name: &str| list(spec, "volumes").any(|one| text(one, "name") == Some(name));
    for container in list(spec, "initContainers").chain(list(spec, "containers")) {
        for mount in mounts(container).filter(|mount| !declared(mount.volume)) {
            findings.wrong(
                format!(
                    "container {} mounts the volume {}, which is not declared",
                    text(container, "name").unwrap_or_default(),
                    mount.volume
                ),
                "add it below `volumes:`",
            );
        }
    }
}

fn encryption_flag(server: &Value, findings: &mut Findings) {
    let name = ENCRYPTION_FLAG;
    if flag(server, name).is_none() {
        findings.wrong(
            format!("kube-apiserver has no {name}: it writes Secrets in clear"),
            format!("add {name}=/etc/kubernetes/encryption/encryption-config.yaml"),
        );
        return;
    }
    file_of(server, name, "kube-apiserver", findings);
    if flag(server, "--encryption-provider-config-automatic-reload").as_deref() != Some("true") {
        findings.doubt(
            "without --encryption-provider-config-automatic-reload=true each change of the \
             EncryptionConfiguration needs a restart of kube-apiserver",
        );
    }
}

/// The file that was checked must be the one that kube-apiserver reads. A copy may have
/// been checked, so another directory is no more than doubtful.
fn checked_file(spec: &Value, server: &Value, checked: &Path, findings: &mut Findings) {
    let Some(read) = flag(server, ENCRYPTION_FLAG) else {
        return;
    };
    let on_node = on_node(spec, server, &read);
    let shown = checked.display();
    if Path::new(&read).file_name() != checked.file_name() {
        findings.wrong(
            format!("kube-apiserver reads {read}, and the file that was checked is {shown}"),
            format!(
                "name the file that kube-apiserver reads with --encryption-config, or mend \
                 {ENCRYPTION_FLAG}"
            ),
        );
    } else if let Some(on_node) = on_node
        && Path::new(&on_node) != checked
    {
        findings.doubt(format!(
            "kube-apiserver reads {on_node} of the node; {shown} was checked, which must say the \
             same"
        ));
    }
}

/// What a path of a container is called on the node, when a directory of it is mounted.
fn on_node(spec: &Value, container: &Value, path: &str) -> Option<String> {
    let place = place(container, path)?;
    let volume = list(spec, "volumes").find(|one| text(one, "name") == Some(&place.volume))?;
    let directory = text(volume.get("hostPath")?, "path")?;
    Some(format!(
        "{}/{}",
        directory.trim_end_matches('/'),
        place.path
    ))
}

/// The container of ours: an init container that never ends.
fn sidecar<'a>(spec: &'a Value, findings: &mut Findings) -> Option<&'a Value> {
    let ours = |one: &&Value| flag(one, "--socketpath").is_some();
    if let Some(sidecar) = list(spec, "initContainers").find(ours) {
        if text(sidecar, "restartPolicy") != Some("Always") {
            findings.wrong(
                "the sidecar is an init container without `restartPolicy: Always`: \
                 kube-apiserver waits for it to end, for ever",
                "add `restartPolicy: Always` to the init container",
            );
        }
        return Some(sidecar);
    }
    let sidecar = list(spec, "containers").find(ours)?;
    findings.doubt(
        "the sidecar is a plain container: it ends together with kube-apiserver, which still \
         needs it while it drains. Make it an init container with `restartPolicy: Always`",
    );
    Some(sidecar)
}

fn probes(sidecar: &Value, findings: &mut Findings) {
    let words = |probe: &str| -> Option<Vec<&str>> {
        let command = sidecar.get(probe)?.pointer("/exec/command")?.as_array()?;
        Some(command.iter().filter_map(Value::as_str).collect())
    };
    let asks_for_a_key = |probe: &str| {
        words(probe).is_some_and(|words| words.contains(&"--ready") || words.contains(&"--deep"))
    };
    if asks_for_a_key("startupProbe") {
        findings.wrong(
            "the sidecar's startupProbe asks for a loaded key: without OpenStack kube-apiserver is \
             never started, and OpenStack may well need this cluster",
            "remove the startupProbe: the socket is there within milliseconds",
        );
    } else if sidecar.get("startupProbe").is_some() {
        findings.doubt(
            "the sidecar has a startupProbe: with kubelets of 1.35.0 to 1.35.2, kube-apiserver is \
             not started again when it ends after a restart of the kubelet",
        );
    }
    if asks_for_a_key("livenessProbe") {
        findings.wrong(
            "the sidecar's livenessProbe asks for a loaded key: an outage of OpenStack would \
             restart it, and a restart loses the key that still works",
            "probe without --ready and --deep",
        );
    }
}

/// A file that is named by a flag: it must be mounted, by its directory.
fn file_of(container: &Value, name: &str, who: &str, findings: &mut Findings) {
    let Some(path) = flag(container, name) else {
        return;
    };
    if mounts(container).any(|mount| mount.path == path) {
        findings.wrong(
            format!("{who} mounts the single file {path}: when it is replaced, the old one stays"),
            "mount its directory",
        );
    } else if place(container, &path).is_none() {
        findings.wrong(
            format!("{name} of {who} is {path}, and nothing is mounted there"),
            "mount the directory that holds it",
        );
    }
}

fn socket(server: &Value, sidecar: &Value, sockets: &[String], findings: &mut Findings) {
    let Some(listens) = flag(sidecar, "--socketpath") else {
        return;
    };
    let listens_at = place(sidecar, &listens);
    if listens_at.is_none() {
        findings.wrong(
            format!("the sidecar listens on {listens}, and no volume is mounted there"),
            "mount one emptyDir into both containers",
        );
        return;
    }
    for path in sockets {
        let hint = "both must mount the same volume, and name the same file in it";
        if mounts(server).any(|mount| mount.path == path) {
            findings.wrong(
                format!("kube-apiserver mounts the socket {path} itself: after a restart of the sidecar it holds a dead one"),
                "mount the directory",
            );
            continue;
        }
        match place(server, path) {
            None => findings.wrong(
                format!("kube-apiserver looks for {path}, and no volume is mounted there"),
                hint,
            ),
            Some(looks_at) if Some(&looks_at) != listens_at.as_ref() => findings.wrong(
                format!(
                    "the sidecar listens on {listens}, which is not the file that kube-apiserver \
                     finds at {path}"
                ),
                hint,
            ),
            Some(_) => {}
        }
    }
}

fn mounts(container: &Value) -> impl Iterator<Item = Mount<'_>> {
    list(container, "volumeMounts").filter_map(|mount| {
        Some(Mount {
            path: text(mount, "mountPath")?.trim_end_matches('/'),
            volume: text(mount, "name")?,
            below: text(mount, "subPath").unwrap_or_default(),
        })
    })
}

/// The innermost mount over a path decides.
fn place(container: &Value, path: &str) -> Option<Place> {
    let inside = |mount: &Mount<'_>| {
        let rest = path.strip_prefix(mount.path)?;
        let rest = rest.strip_prefix('/')?;
        Some(
            format!("{}/{rest}", mount.below)
                .trim_matches('/')
                .to_owned(),
        )
    };
    let over =
        mounts(container).filter_map(|mount| Some((mount.path.len(), inside(&mount)?, mount)));
    let (_, path, mount) = over.max_by_key(|(length, ..)| *length)?;
    Some(Place {
        volume: mount.volume.to_owned(),
        path,
    })
}

/// `--flag=value` or `--flag value`, in command or args; `true` for a flag alone.
fn flag(container: &Value, name: &str) -> Option<String> {
    let words = list(container, "command").chain(list(container, "args"));
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    words.iter().enumerate().find_map(|(at, word)| {
        let rest = word.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if !rest.is_empty() => None,
            None => {
                let next = words.get(at + 1).filter(|next| !next.starts_with('-'));
                Some(next.map_or("true", |next| next).to_owned())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../static-pod/kube-apiserver.yaml");

    fn judged(text: &str) -> Findings {
        let sockets = ["/run/barbican-kms/kms.sock".to_owned()];
        let pod = crate::config::parse_yaml(text).expect("YAML");
        let checked = Path::new("/etc/kubernetes/encryption/encryption-config.yaml");
        judge(&pod, &sockets, Some(checked))
    }

    #[test]
    fn the_shipped_manifest_is_right() {
        let findings = judged(GOOD);
        assert_eq!(findings.wrong, []);
        assert_eq!(findings.doubts, [""; 0]);
        assert!(is_kubeadms(&crate::config::parse_yaml(GOOD).expect("YAML")));
    }

    #[test]
    fn each_classic_mistake_is_found_with_its_fix() {
        for (old, new, found) in [
            ("kind: Pod", "kind: Deployment", "no Pod"),
            (
                "  - --encryption-provider-config=",
                "  - --other=",
                "Secrets in clear",
            ),
            (
                "--socketpath=/run/barbican-kms/kms.sock\n    - --cloud",
                "--cloud",
                "no barbican-kms container",
            ),
            (
                "--socketpath=/run/barbican-kms/kms.sock\n    - --cloud",
                "--socketpath=/run/barbican-kms/k.sock\n    - --cloud",
                "not the file that kube-apiserver",
            ),
            (
                "--socketpath=/run/barbican-kms/kms.sock\n    - --cloud",
                "--socketpath=/run/kms.sock\n    - --cloud",
                "no volume is mounted there",
            ),
            ("    restartPolicy: Always\n", "", "waits for it to end"),
            (
                "mountPath: /etc/kubernetes/barbican-kms\n",
                "mountPath: /etc/kubernetes/barbican-kms/cloud.conf\n",
                "single file",
            ),
            (
                "mountPath: /etc/kubernetes/barbican-kms\n",
                "mountPath: /etc/elsewhere\n",
                "nothing is mounted there",
            ),
            (
                "mountPath: /etc/kubernetes/encryption\n",
                "mountPath: /etc/kubernetes/encryption/encryption-config.yaml\n",
                "single file",
            ),
            (
                "mountPath: /run/barbican-kms\n",
                "mountPath: /run/barbican-kms/kms.sock\n",
                "itself",
            ),
            (
                "  - emptyDir:\n      medium: Memory\n      sizeLimit: 1Mi\n    name: barbican-kms-socket\n",
                "",
                "not declared",
            ),
            (
                "  - emptyDir:\n      medium: Memory\n      sizeLimit: 1Mi\n",
                "  - secret:\n      secretName: x\n",
                "cannot have one",
            ),
            (
                "    livenessProbe:\n      exec:\n        command:\n",
                "    livenessProbe:\n      exec:\n        command:\n        - --ready\n",
                "livenessProbe asks",
            ),
            (
                "    livenessProbe:\n      exec:\n        command:\n",
                "    startupProbe:\n      exec:\n        command:\n        - --deep\n",
                "startupProbe asks",
            ),
        ] {
            let changed = GOOD.replacen(old, new, 1);
            assert_ne!(changed, GOOD, "{old} is in the file");
            let findings = judged(&changed);
            let wrong = findings
                .wrong
                .iter()
                .find(|wrong| wrong.what.contains(found));
            let wrong = wrong.unwrap_or_else(|| panic!("{found}: {findings:?}"));
            assert!(!wrong.fix.is_empty());
        }
    }

    #[test]
    fn what_works_and_could_be_better_is_a_doubt() {
        for (old, new, found) in [
            (
                "--encryption-provider-config-automatic-reload=true",
                "--v=2",
                "needs a restart",
            ),
            (
                "    livenessProbe:\n      exec:",
                "    startupProbe:\n      exec:",
                "1.35",
            ),
            (
                "    - --cloud-config=",
                "    - --metrics-address=0.0.0.0:9464\n    - --cloud-config=",
                "can read metrics",
            ),
        ] {
            let findings = judged(&GOOD.replacen(old, new, 1));
            assert_eq!(findings.wrong, [], "{found}");
            assert!(
                findings.doubts.iter().any(|doubt| doubt.contains(found)),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn the_file_that_was_checked_must_be_the_one_that_is_read() {
        let judged = |manifest: &str, checked: &str| {
            let pod = crate::config::parse_yaml(manifest).expect("YAML");
            judge(&pod, &[], Some(Path::new(checked)))
        };
        let other = judged(GOOD, "/etc/kubernetes/encryption/encryption-config.yml");
        assert!(other.wrong[0].what.contains("was checked"), "{other:?}");
        assert!(other.wrong[0].fix.contains("--encryption-config"));
        let copy = judged(GOOD, "/root/encryption-config.yaml");
        assert_eq!(copy.wrong, []);
        assert!(copy.doubts[0].contains("must say the same"), "{copy:?}");
        // What the container calls /etc/kubernetes/encryption lies elsewhere.
        let moved = GOOD.replace("path: /etc/kubernetes/encryption", "path: /srv/encryption");
        assert_ne!(moved, GOOD);
        let moved = judged(&moved, "/srv/encryption/encryption-config.yaml");
        assert_eq!((moved.wrong, moved.doubts), (vec![], vec![]));
    }

    #[test]
    fn the_innermost_mount_and_its_sub_path_decide() {
        let container = serde_json::json!({"volumeMounts": [
            {"name": "outer", "mountPath": "/run"},
            {"name": "inner", "mountPath": "/run/kms/", "subPath": "sockets"},
        ]});
        let found = place(&container, "/run/kms/kms.sock").expect("mounted");
        assert_eq!(
            (found.volume.as_str(), found.path.as_str()),
            ("inner", "sockets/kms.sock")
        );
        assert_eq!(place(&container, "/running"), None);
    }
}
