"""A key for the whole control plane by scripts/rotate-key, which asks the sidecar in the static pod
by the kubelet's exec: the guide's way from key-id to a container, a rotation and a retirement.
"""

import json
import unittest

from cluster import CONFIG, IMPATIENT, PREFIX, SOCKET, OnNode
from node import FILES, kubeadm_config, until
from traffic import Traffic

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"


class Rotation(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.patches()
        cls.encryption()
        cls.node.kubeadm(kubeadm_config("v1beta4"))
        cls.node.kubelet()
        cls.node.ready()
        cls.node.allow_exec()

    def test_1_from_a_key_in_the_file_to_a_container_by_a_reload(self):
        self.kms_healthy()
        self.assertIn(self.keys[0].encode(), self.secret("before"))
        sidecar = self.one("barbican-kms")
        container, credential = self.container(self.keys[0])
        self.node.write(CONFIG, self.following(self.node.read(CONFIG), container, credential))
        until("the sidecar follows the container", lambda: self.status()["ring"].get("container_id") == container)
        self.assertEqual((self.status()["write_key_id"], self.status()["ring"]["problem"]), (self.keys[0], None))
        self.assertEqual(self.one("barbican-kms"), sidecar)

    def test_2_one_command_rotates_and_no_request_fails(self):
        server, sidecar = self.one("kube-apiserver"), self.one("barbican-kms")
        planned = self.rotate("--dry-run")
        self.assertEqual(self.status()["write_key_id"], self.keys[0], planned)
        with Traffic(self.node) as traffic:
            traffic.steady()
            report = json.loads(self.rotate("--json"))
            traffic.steady()
        self.assertEqual(traffic.failed(), [])
        new = self.status()["write_key_id"]
        self.assertNotEqual(new, self.keys[0])
        self.assertEqual(report["outcome"], "rotated")
        self.assertEqual(report["nodes"], [{"name": "node-1", "write_key_id": new, "problem": None}])
        self.assertEqual((self.one("kube-apiserver"), self.one("barbican-kms")), (server, sidecar), "nothing was restarted")
        print(f"\n{traffic.asked()} requests during the rotation, none failed; migrated: {report['migrated']}")
        # The oldest object, one of the load, and each of them.
        self.assertEqual(self.not_under(new), [])
        self.assertEqual(self.get("before"), "value")

    def not_under(self, key):
        """The Secrets in etcd that are not stored under this key."""
        names = self.node.kubectl("get", "secrets", "-o", "name").split()
        self.assertGreater(len(names), 30)
        stored = {name: self.node.etcd_value("/registry/secrets/default/" + name.split("/")[1]) for name in names[:20] + names[-20:]}
        return [name for name, value in stored.items() if not value.startswith(PREFIX) or key.encode() not in value]

    def test_3_the_old_key_is_retired_and_a_restarted_pod_does_without_it(self):
        new = self.status()["write_key_id"]
        self.assertEqual(json.loads(self.rotate("retire", "--json"))["retired"], [self.keys[0]])
        until("the sidecar has let the old key go", lambda: [key["id"] for key in self.status()["keys"]] == [new])
        server = self.one("kube-apiserver")
        self.node.exec("mv", MANIFEST, "/root/aside")
        until("kube-apiserver ends", lambda: not self.node.path(f"/proc/{server}").exists())
        self.node.exec("mv", "/root/aside", MANIFEST)
        self.node.ready()
        self.kms_healthy()
        self.assertEqual(self.get("before"), "value")
        self.assertEqual([key["id"] for key in self.status()["keys"]], [new])
        self.assertIn("nothing is under way", self.rotate("status"))

    def rotate(self, *words):
        """What the tool prints; on the node, where `kubectl exec` goes through API server and kubelet."""
        done = self.operator(" ".join([f"{FILES}/scripts/rotate-key", IMPATIENT, *words]), check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.node.report())
        return done.stdout

    def status(self):
        return json.loads(self.in_sidecar("/bin/barbican-kms", "status", "--json", f"--socketpath={SOCKET}").stdout)


if __name__ == "__main__":
    unittest.main()
