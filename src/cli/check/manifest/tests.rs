//! Each rule against the shipped manifest with one mistake in it, and the corpus.

mod fields;
mod shapes;

use super::*;
use crate::cli::check::findings::text;
use crate::cli::understand;

fn findings_as(pod: &Value, sockets: &[String], checked: &Path) -> Findings {
    let context = Context {
        sockets,
        checked: Some(checked),
        is_json: false,
        understand: Some(understand),
    };
    check(pod, context)
}

const GOOD: &str = include_str!("../../../../static-pod/kube-apiserver.yaml");

fn findings_of(text: &str) -> Findings {
    let sockets = ["/run/barbican-kms/kms.sock".to_owned()];
    let pod = crate::config::parse_yaml(text).expect("YAML");
    let checked = Path::new("/etc/kubernetes/encryption/encryption-config.yaml");
    findings_as(&pod, &sockets, checked)
}

#[test]
fn the_shipped_manifest_is_right() {
    let findings = findings_of(GOOD);
    assert_eq!(findings.errors, []);
    assert_eq!(findings.warnings, [""; 0]);
}

#[test]
fn each_classic_mistake_is_found_with_its_fix() {
    for (old, new, found) in [
        ("kind: Pod", "kind: Deployment", "not a Pod"),
        (
            "  - --encryption-provider-config=",
            "  - --other=",
            "Secrets unencrypted",
        ),
        (
            "--socketpath=/run/barbican-kms/kms.sock\n    - --cloud",
            "--cloud",
            "exit code 64",
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
        (
            "    restartPolicy: Always\n",
            "",
            "waits forever for it to end",
        ),
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
            "refers to a Secret",
        ),
        (
            "    livenessProbe:\n      exec:\n        command:\n",
            "    livenessProbe:\n      exec:\n        command: [/bin/barbican-kms, probe, --ready, --socketpath=/run/barbican-kms/kms.sock]\n      other:\n",
            "livenessProbe needs",
        ),
        (
            "    livenessProbe:\n      exec:\n        command:\n",
            "    startupProbe:\n      exec:\n        command: [/bin/barbican-kms, probe, --deep, --socketpath=/run/barbican-kms/kms.sock]\n      other:\n",
            "startupProbe needs",
        ),
    ] {
        let changed = GOOD.replacen(old, new, 1);
        assert_ne!(changed, GOOD, "{old} is in the file");
        let findings = findings_of(&changed);
        let wrong = findings
            .errors
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
            "can read the metrics",
        ),
    ] {
        let findings = findings_of(&GOOD.replacen(old, new, 1));
        assert_eq!(findings.errors, [], "{found}");
        assert!(
            findings.warnings.iter().any(|doubt| doubt.contains(found)),
            "{findings:?}"
        );
    }
}

#[test]
fn the_file_that_was_checked_must_be_the_one_that_is_read() {
    let findings_of = |manifest: &str, checked: &str| {
        let pod = crate::config::parse_yaml(manifest).expect("YAML");
        findings_as(&pod, &[], Path::new(checked))
    };
    let other = findings_of(GOOD, "/etc/kubernetes/encryption/encryption-config.yml");
    assert!(other.errors[0].what.contains("was checked"), "{other:?}");
    assert!(other.errors[0].fix.contains("--encryption-config"));
    let copy = findings_of(GOOD, "/root/encryption-config.yaml");
    assert_eq!(copy.errors, []);
    assert!(
        copy.warnings[0].contains("must have the same content"),
        "{copy:?}"
    );
    // What the container calls /etc/kubernetes/encryption lies elsewhere.
    let moved = GOOD.replace("path: /etc/kubernetes/encryption", "path: /srv/encryption");
    assert_ne!(moved, GOOD);
    let moved = findings_of(&moved, "/srv/encryption/encryption-config.yaml");
    assert_eq!((moved.errors, moved.warnings), (vec![], vec![]));
}

#[test]
fn the_corpus_is_judged_as_its_verdicts_say() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/static-pod/corpus");
    let read = |name: &str| {
        let content = crate::config::files::read(&corpus.join(name)).expect("read");
        String::from_utf8(content.bytes).expect("text")
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in read("verdicts.jsonl").lines() {
        let one: Value = serde_json::from_str(line).expect("JSON");
        let (file, verdict) = (text(&one, "file"), text(&one, "verdict"));
        let (file, verdict) = (file.expect("a file"), verdict.expect("a verdict"));
        let found = match crate::config::parse_yaml(&read(file)) {
            Ok(_) => findings_of(&read(file)),
            Err(_) => continue,
        };
        let (fails, doubts) = (!found.errors.is_empty(), !found.warnings.is_empty());
        let right = match verdict {
            "fatal" => fails,
            "doubtful" => fails || doubts,
            "fine" => !fails,
            other => panic!("{other}"),
        };
        if !right {
            wrong.push(format!("{file} is {verdict}: {found:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 25, "{count}");
}

/// The shipped manifest with one text replaced.
fn changed(old: &str, new: &str) -> Findings {
    let changed = GOOD.replacen(old, new, 1);
    assert_ne!(changed, GOOD, "{old} is in the file");
    findings_of(&changed)
}

const SIDECAR: &str = "  initContainers:\n  - args:\n";
const SERVE: &str = "    - --cloud-config=/etc/kubernetes/barbican-kms/cloud.conf\n";
const PROBE: &str = "      exec:\n        command:\n        - /bin/barbican-kms\n        - probe\n        - --socketpath=/run/barbican-kms/kms.sock\n";
const MEMORY: &str = "        memory: 64Mi\n";
const POD: &str = "  priority: 2000001000\n";
const FLAG: &str =
    "    - --encryption-provider-config=/etc/kubernetes/encryption/encryption-config.yaml\n";

#[test]
fn what_the_kubelet_or_the_image_cannot_do_is_wrong() {
    let probe = |text: &str| (PROBE, format!("      {text}\n"));
    let container = |text: &str| {
        (
            SIDECAR,
            format!("  initContainers:\n  - {text}\n    args:\n"),
        )
    };
    let pod = |text: &str| (POD, format!("{POD}  {text}\n"));
    let serve = |text: &str| (SERVE, format!("{SERVE}    - {text}\n"));
    let flag = |text: &str| (FLAG, format!("    - {text}\n"));
    for ((old, new), found) in [
        (container("envFrom: [{secretRef: {name: x}}]"), "a Secret"),
        (
            container("env: [{name: A, valueFrom: {configMapKeyRef: {name: x, key: y}}}]"),
            "a ConfigMap",
        ),
        (pod("serviceAccountName: kms"), "a service account"),
        (pod("imagePullSecrets: [{name: x}]"), "a Secret"),
        (pod("resourceClaims: [{name: x}]"), "a ResourceClaim"),
        (container("command: [/bin/sh, -c]"), "no shell"),
        (
            container("lifecycle: {postStart: {exec: {command: [sleep, '1']}}}"),
            "postStart",
        ),
        (
            probe("exec: {command: [cat, /run/barbican-kms/kms.sock]}"),
            "cannot be run",
        ),
        (
            probe("exec: {command: [/bin/barbican-kms, prob, --socketpath=/x]}"),
            "unrecognized",
        ),
        (
            probe("exec: {command: [/bin/barbican-kms, probe, --socketpath=/x]}"),
            "it calls /x",
        ),
        (
            probe("httpGet: {path: /livez, port: 9464, host: 127.0.0.1}"),
            "no --metrics-address",
        ),
        (probe("tcpSocket: {port: 9464}"), "no --metrics-address"),
        (probe("grpc: {port: 9464}"), "unix socket"),
        (serve("--metrics-address=:9464"), "exit code 64"),
        (serve("--socket-group=kms"), "/etc/group"),
        (serve("--audit-log=/var/log/a.log"), "--audit-log"),
        ((MEMORY, "        memory: 8Mi\n".to_owned()), "memory limit"),
        ((MEMORY, "        cpu: 1m\n".to_owned()), "CPU limit"),
        (
            flag("--experimental-encryption-provider-config=/x"),
            "has no flag",
        ),
        (flag("--encyrption-provider-config=/x"), "has no flag"),
        (
            flag("'--encryption-provider-config /x'"),
            "contains several",
        ),
        (flag("--encryption-provider-config=$(NONE)"), "no variable"),
        (flag("-encryption-provider-config=/x"), "two dashes"),
        (
            (
                "      runAsUser: 0\n",
                "      runAsUser: 0\n      runAsNonRoot: true\n".to_owned(),
            ),
            "does not start it",
        ),
        (
            (
                "name: barbican-kms-config\n  - ",
                "name: barbican-kms-socket\n  - ".to_owned(),
            ),
            "two volumes",
        ),
    ] {
        let findings = changed(old, &new);
        let is_found = findings.errors.iter().any(|one| one.what.contains(found));
        assert!(is_found, "{new}: {findings:?}");
    }
}

#[test]
fn every_form_of_a_flag_and_every_served_probe_is_right() {
    let metrics = |address: &str, probe: &str| {
        let with = GOOD.replacen(PROBE, &format!("      {probe}\n"), 1);
        findings_of(&with.replacen(
            SERVE,
            &format!("{SERVE}    - --metrics-address={address}\n"),
            1,
        ))
    };
    let served = metrics(
        "127.0.0.1:9464",
        "httpGet: {path: /livez, port: 9464, host: 127.0.0.1}",
    );
    assert_eq!(served.errors, []);
    let elsewhere = metrics("127.0.0.1:9464", "httpGet: {path: /livez, port: 9464}");
    assert!(
        elsewhere.errors[0].what.contains("pod's address"),
        "{elsewhere:?}"
    );
    let ready = metrics(
        "127.0.0.1:9464",
        "httpGet: {path: /readyz, port: 9464, host: 127.0.0.1}",
    );
    assert!(ready.errors[0].what.contains("loaded key"), "{ready:?}");
    let two = "    - --encryption_provider_config\n    - /etc/kubernetes/encryption/encryption-config.yaml\n";
    assert_eq!(changed(FLAG, two).errors, []);
}

#[test]
fn another_user_of_kube_apiserver_needs_a_group_of_the_socket() {
    let user = "    securityContext: {runAsUser: 2000, runAsGroup: 2000}\n  hostNetwork: true\n";
    let pod = GOOD.replacen("  hostNetwork: true\n", user, 1);
    let closed = findings_of(&pod);
    assert!(
        closed.errors[0].what.contains("cannot connect"),
        "{closed:?}"
    );
    let open = format!("{SERVE}    - --socket-mode=0660\n    - --socket-group=2000\n");
    assert_eq!(findings_of(&pod.replacen(SERVE, &open, 1)).errors, []);
}

#[test]
fn a_copy_that_the_kubelet_runs_too_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let pod = crate::config::parse_yaml(GOOD).expect("YAML");
    let look = || {
        let mut findings = Findings::default();
        directory::nothing_else_runs(&path("kube-apiserver.yaml"), &pod, &mut findings);
        findings.errors
    };
    for name in ["kube-apiserver.yaml", ".kube-apiserver.yaml.bak"] {
        std::fs::write(path(name), GOOD).expect("written");
    }
    std::fs::write(path("etcd.yaml"), "kind: Pod\n").expect("written");
    assert_eq!(look(), []);
    std::fs::write(path("old"), GOOD).expect("written");
    assert!(look()[0].what.contains("is old, also"), "{:?}", look());
}

#[test]
fn a_file_that_the_cloud_config_names_must_be_mounted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let pod = crate::config::parse_yaml(GOOD).expect("YAML");
    let shape = Shape::of(&pod).expect("a pod");
    let look = |authority: &Path| {
        let config = format!(
            "[Global]\nauth-url = \"https://k/v3\"\napplication-credential-id = \"0123456789abcdef0123456789abcdef\"\napplication-credential-secret = \"x\"\n[KeyManager]\nkey-id = \"11111111-1111-4111-8111-111111111111\"\n[Global]\nca-file = \"{}\"\n",
            authority.display()
        );
        std::fs::write(path("cloud.conf"), config).expect("written");
        let mut findings = Findings::default();
        cloud_files::are_mounted(shape, Some(&path("cloud.conf")), &mut findings);
        findings.errors
    };
    std::fs::write(path("ca.pem"), "").expect("written");
    assert!(look(&path("ca.pem"))[0].what.contains("ca.pem"));
    let secret = look(Path::new("-----BEGIN PRIVATE KEY-----"));
    assert!(!format!("{secret:?}").contains("BEGIN"), "{secret:?}");
    assert_eq!(look(Path::new("/etc/kubernetes/barbican-kms/ca.pem")), []);
}
