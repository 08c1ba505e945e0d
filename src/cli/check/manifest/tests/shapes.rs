//! Where the plugin is not in kube-apiserver's static pod.

use super::*;

const PLUGIN: &str = include_str!("../../../../../static-pod/separate/barbican-kms.yaml");

const SOCKET: &str = "/run/barbican-kms/kms.sock";

fn findings_in_pod(manifest: &Value) -> Findings {
    let checked = Path::new("/etc/kubernetes/encryption/encryption-config.yaml");
    findings_as(manifest, &[SOCKET.to_owned()], checked)
}

fn parsed(text: &str) -> Value {
    crate::config::parse_yaml(text).expect("YAML")
}

/// The shipped manifest without the sidecar; the socket's directory is the node's.
fn lone_server() -> Value {
    let mut pod = parsed(GOOD);
    let spec = pod["spec"].as_object_mut().expect("a spec");
    spec.remove("initContainers");
    for volume in spec["volumes"].as_array_mut().expect("volumes") {
        if volume["name"] == "barbican-kms-socket" {
            *volume = serde_json::json!({"name": "barbican-kms-socket", "hostPath":
                {"path": "/run/barbican-kms", "type": "DirectoryOrCreate"}});
        }
    }
    pod
}

#[test]
fn a_pod_of_the_plugin_alone_is_right() {
    let findings = findings_in_pod(&parsed(PLUGIN));
    assert_eq!(findings.errors, []);
    assert_eq!(findings.warnings, [""; 0]);
}

#[test]
fn a_pod_of_the_plugin_alone_must_show_its_socket_to_the_node() {
    for (old, new, found) in [
        (
            "    hostPath:\n      path: /run/barbican-kms\n      type: DirectoryOrCreate\n",
            "    emptyDir: {}\n",
            "this pod alone",
        ),
        ("serve\n", "probe\n", "exit code 64"),
        ("[/bin/barbican-kms, probe", "[cat, probe", "cannot be run"),
        ("hostPath:", "secret:", "refers to a Secret"),
    ] {
        let changed = PLUGIN.replacen(old, new, 1);
        assert_ne!(changed, PLUGIN, "{old} is in the file");
        let findings = findings_in_pod(&parsed(&changed));
        let is_found = findings.errors.iter().any(|one| one.what.contains(found));
        assert!(is_found, "{found}: {findings:?}");
    }
    let moved = PLUGIN.replace("path: /run/barbican-kms\n", "path: /run/elsewhere\n");
    let findings = findings_in_pod(&parsed(&moved));
    assert_eq!(findings.errors, []);
    assert!(
        findings.warnings[0].contains("no provider names"),
        "{findings:?}"
    );
}

#[test]
fn a_kube_apiserver_without_a_sidecar_may_look_for_the_socket_on_the_node() {
    let findings = findings_in_pod(&lone_server());
    assert_eq!(findings.errors, []);
    // An upgrade without the patch leaves no volume of the socket.
    let mut pod = lone_server();
    pod["spec"]["volumes"][0] = serde_json::json!({"name": "barbican-kms-socket", "emptyDir": {}});
    let findings = findings_in_pod(&pod);
    assert!(
        findings.errors[0]
            .what
            .contains("no barbican-kms container"),
        "{findings:?}"
    );
}

#[test]
fn who_serves_the_socket_is_looked_for_beside_the_manifest() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let (pod, plugin) = (lone_server(), parsed(PLUGIN));
    let look = |pod: &Value, name: &str| {
        let mut findings = Findings::default();
        let shape = Shape::of(pod).expect("a pod");
        outside::somebody_serves(&path(name), shape, &[SOCKET.to_owned()], &mut findings);
        directory::nothing_else_runs(&path(name), pod, &mut findings);
        assert_eq!(findings.errors, []);
        findings.warnings
    };
    std::fs::write(path("kube-apiserver.yaml"), pod.to_string()).expect("written");
    let alone = look(&pod, "kube-apiserver.yaml");
    assert!(alone[0].contains("nobody listens"), "{alone:?}");
    std::fs::write(path("barbican-kms.yaml"), PLUGIN).expect("written");
    assert_eq!(look(&pod, "kube-apiserver.yaml"), [""; 0]);
    assert_eq!(look(&plugin, "barbican-kms.yaml"), [""; 0]);
    std::fs::write(path("copy.yaml"), PLUGIN).expect("written");
    assert!(look(&plugin, "barbican-kms.yaml")[0].contains("copy.yaml, also this pod"));
}

const HOSTED: &str = include_str!("../../../../../static-pod/hosted/kube-apiserver.yaml");

fn hosted(old: &str, new: &str) -> Findings {
    let changed = HOSTED.replacen(old, new, 1);
    assert!(old == new || changed != HOSTED, "{old} is in the file");
    let document = document::read(changed.as_bytes(), &mut Findings::default()).expect("YAML");
    findings_in_pod(&document.pod)
}

#[test]
fn the_shipped_hosted_control_plane_is_right() {
    for kind in ["Deployment", "StatefulSet"] {
        let findings = hosted("kind: Deployment", &format!("kind: {kind}"));
        assert_eq!(findings.errors, []);
        assert_eq!(findings.warnings, [""; 0]);
    }
}

#[test]
fn the_mistakes_of_hosted_control_planes_are_found() {
    for (old, new, found) in [
        ("apps/v1", "apps/v1beta1", "not apps/v1"),
        (
            "        fsGroup: 65532\n",
            "",
            "cannot read /etc/barbican-kms/cloud.conf",
        ),
        (
            "        fsGroup: 65532\n",
            "        supplementalGroups: [65532]\n",
            "cannot read /etc/barbican-kms/cloud.conf",
        ),
        ("        - --socket-mode=0660\n", "", "cannot connect"),
        ("        restartPolicy: Always\n", "", "forever"),
        (
            "mountPath: /etc/barbican-kms\n",
            "mountPath: /etc/barbican-kms/cloud.conf\n          subPath: cloud.conf\n",
            "single file",
        ),
        (
            "secretName: barbican-kms\n",
            "secretNames: x\n        emptyDir: {}\n",
            "several types",
        ),
        (
            "      - name: barbican-kms-config\n",
            "      - name: other\n",
            "not declared",
        ),
        (
            "memory: 64Mi",
            "memory: 64 MB",
            "spec.template.spec.initContainers[0]",
        ),
        (
            "        name: barbican-kms\n        ports",
            "        name: barbican-kms\n        command: [/bin/sh]\n        ports",
            "no shell",
        ),
    ] {
        let findings = hosted(old, new);
        let is_found = findings.errors.iter().any(|one| one.what.contains(found));
        assert!(is_found, "{found}: {findings:?}");
    }
}

#[test]
fn a_hosted_socket_on_the_node_is_doubted() {
    let socket = "      - emptyDir:\n          medium: Memory\n          sizeLimit: 1Mi\n";
    let findings = hosted(socket, "      - hostPath: {path: /run/kms}\n");
    let doubts = findings.warnings.iter();
    assert!(
        doubts.into_iter().any(|one| one.contains("would share")),
        "{findings:?}"
    );
}

#[test]
fn a_hosted_kube_apiserver_has_many_names_and_needs_the_sidecar() {
    let mut server = parsed(HOSTED.split("---").next().expect("the first"));
    server["spec"]["template"]["spec"]["containers"][0]["name"] = "apiserver".into();
    assert_eq!(findings_in_pod(&server).errors, []);
    let spec = server["spec"]["template"]["spec"].as_object_mut();
    spec.expect("a spec").remove("initContainers");
    let findings = findings_in_pod(&server);
    assert!(
        findings.errors[0].fix.contains("static-pod/hosted"),
        "{findings:?}"
    );
    server["spec"]["template"]["spec"] = serde_json::json!({"containers": []});
    assert!(
        findings_in_pod(&server)
            .errors
            .iter()
            .any(|one| one.what.contains("no container kube-apiserver"))
    );
}
