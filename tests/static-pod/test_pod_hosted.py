"""static-pod/hosted on a node of real programs: two API servers in pods of the first one's cluster,
their sidecars with one Secret; live rotations by the Secret and by a container, and an outage.
"""

import contextlib
import json
import re
import unittest
import urllib.parse

from cluster import IMPATIENT, PREFIX, OnNode
from hosted import NAMESPACE, PODS, ControlPlane
from node import FILES, guide, kubeadm_config, until
from pod_network import install
from traffic import Traffic


class Hosted(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.patches()
        cls.encryption()
        cls.node.kubeadm(kubeadm_config("v1beta4"))
        keystone, barbican = (urllib.parse.urlsplit(cls.state[name]).port for name in ("auth_url", "barbican_url"))
        install(cls.node, keystone, barbican)
        cls.node.kubelet()
        cls.node.ready()
        cls.node.allow_exec()
        cls.plane = ControlPlane(cls.node, re.search(r"image: (\S+)", cls.node.read("/etc/kubernetes/manifests/etcd.yaml"))[1])
        cls.config = cls.cloud_conf(keystone, barbican)

    @classmethod
    def cloud_conf(cls, keystone, barbican):
        """For a pod, which finds OpenStack by name."""
        text = cls.node.read(cls.state["cloud_configs"]["application_credential_narrow"])
        for name, value in (("ca-file", "/etc/barbican-kms/ca.crt"), ("auth-url", f"https://keystone.example.com:{keystone}/v3"),
                            ("key-id", f"{cls.keys[0]}\nkey-manager-endpoint = https://barbican.example.com:{barbican}")):
            text, n = re.subn(rf"(?m)^{name} = .*", f"{name} = {value}", text)
            assert n == 1, name
        return text

    @contextlib.contextmanager
    def traffic(self):
        """Through both API servers at once; nothing of it may fail."""
        with contextlib.ExitStack() as running:
            all_of_it = [running.enter_context(Traffic(self.node, self.plane.kubeconfig(pod), pod, workers=2)) for pod in PODS]
            yield lambda: [one.steady() for one in all_of_it]
        for one in all_of_it:
            self.assertEqual(one.failed(), [], one.name)
        print(f"\n{sum(one.asked() for one in all_of_it)} requests, none failed")

    def make(self, pod, name):
        self.plane.ask(pod, "create", "secret", "generic", name, f"--from-literal=key={name}")
        return self.plane.stored(name)

    def read(self, pod, name):
        return self.plane.ask(pod, "get", "secret", name, "-o", "go-template={{.data.key | base64decode}}")

    def held(self, pod):
        return {key["id"] for key in self.plane.status(pod)["keys"] if key["held"]}

    def everywhere(self, what, true, seconds=180):
        """The kubelet takes a minute or two to change the files of a Secret."""
        for pod in PODS:
            until(lambda: f"{pod}: {what}\n{self.plane.report(pod)}", lambda: true(pod), seconds, every=1)

    def all_write_with(self, key):
        self.everywhere("its sidecar writes with the new key", lambda pod: self.plane.status(pod)["write_key_id"] == key)
        names = iter(range(1000))
        self.everywhere("it writes with the new key", lambda pod: key.encode() in self.make(pod, f"{pod}-{key[:8]}-{next(names)}"))

    def test_1_two_api_servers_of_one_secret_read_what_either_has_written(self):
        self.plane.install(self.config, self.node.read(self.state["ca_file"]))
        self.plane.ready()
        for writer, reader in (PODS, PODS[::-1]):
            stored = self.make(writer, f"by-{writer}")
            self.assertTrue(stored.startswith(PREFIX))
            self.assertIn(self.keys[0].encode(), stored)
            self.assertEqual(self.read(reader, f"by-{writer}"), f"by-{writer}")
        self.assertTrue(self.node.etcd_value(f"/registry/secrets/{NAMESPACE}/barbican-kms").startswith(PREFIX),
                        "the credential is encrypted in the management cluster")

    def test_2_nobody_is_root(self):
        users = {}
        for name in ("barbican-kms", "kube-apiserver"):
            for pid, command in self.node.processes(name):
                if name == "barbican-kms" and "--socket-mode=0660" not in command:
                    continue
                status = self.node.read(f"/proc/{pid}/status")
                users.setdefault(name, []).append(re.search(r"(?m)^Uid:\s+(\d+)", status)[1])
        self.assertEqual(users["barbican-kms"], ["65532"] * 2)
        self.assertEqual(sorted(users["kube-apiserver"]), ["0", "65534", "65534"], "the first is the management cluster's")

    def test_3_a_rotation_by_the_secret_is_followed_live(self):
        old, new = self.keys[:2]
        with self.traffic() as steady:
            steady()
            self.plane.change(re.sub(r"(?m)^(key-id = .*)", rf"\1\ndecrypt-key-ids = {new}", self.config))
            self.everywhere("it holds both keys", lambda pod: self.held(pod) == {old, new})
            self.plane.change(re.sub(r"(?m)^key-id = .*", f"key-id = {new}\ndecrypt-key-ids = {old}", self.config))
            self.all_write_with(new)
            steady()
        self.assertEqual(self.read(PODS[0], f"by-{PODS[1]}"), f"by-{PODS[1]}")
        self.assert_not_restarted()

    def test_4_a_rotation_by_a_container_touches_no_secret(self):
        present = self.keys[1]
        container, credential = self.container(present, self.keys[0])
        config = re.sub(r"(?m)^key-id = .*", f"key-id = {present}", self.config)
        pinned = f"decrypt-key-ids = {self.keys[0]}\n" # nothing was migrated away from it
        with self.traffic() as steady:
            self.plane.change(self.following(config, container, credential) + pinned)
            self.everywhere("it follows the container", lambda pod: self.plane.status(pod)["ring"].get("container_id") == container)
            steady()
            report = self.rotate()
            steady()
        new, = {node["write_key_id"] for node in report["nodes"]}
        self.assertEqual((report["outcome"], [node["name"] for node in report["nodes"]]), ("rotated", list(PODS)))
        self.assertNotIn(new, self.keys)
        self.assertIn(new.encode(), self.plane.stored(f"by-{PODS[0]}"), "the oldest is migrated")
        self.assertEqual(self.read(PODS[1], f"by-{PODS[0]}"), f"by-{PODS[0]}")
        self.assert_not_restarted()

    def rotate(self):
        """By the README's command, logged in to the hosted cluster."""
        commands = guide("Change the configuration, rotate the key", 3, document="hosted/README.md").strip()
        done = self.operator(f"""
            cd {FILES}
            export NAMESPACE={NAMESPACE} MANAGEMENT=/etc/kubernetes/admin.conf KUBECONFIG={self.plane.kubeconfig(PODS[0])}
            {commands} {IMPATIENT} --json""", check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_5_an_outage_of_openstack_fails_no_request_and_a_new_pod_waits_for_its_end(self):
        stays, goes = PODS
        sidecars = len(self.node.processes("barbican-kms"))
        self.openstack("down")
        try:
            with self.traffic() as steady:
                steady()
            self.plane.kubectl("delete", "pod", goes, "--wait=true", "--timeout=120s")
            self.plane.start(goes)
            until("its sidecar runs", lambda: len(self.node.processes("barbican-kms")) == sidecars)
            until(f"{goes} says what it waits for", lambda: "kms-providers" in self.unready(goes), every=1)
            self.assertEqual(self.read(stays, f"by-{goes}"), f"by-{goes}")
            self.assertTrue(self.make(stays, "in-the-outage").startswith(PREFIX))
        finally:
            self.openstack("up", "--tls")
        self.plane.ready()
        self.assertEqual(self.read(goes, "in-the-outage"), "in-the-outage")
        self.assert_not_restarted()

    def unready(self, pod):
        """What its /readyz says is wrong."""
        done = self.node.exec("kubectl", "--kubeconfig", self.plane.kubeconfig(pod), "get", "--raw", "/readyz?verbose", check=False)
        return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "[-]" in line)

    def assert_not_restarted(self):
        self.assertEqual(self.plane.restarts(), {pod: [0, 0] for pod in PODS})


if __name__ == "__main__":
    unittest.main()
