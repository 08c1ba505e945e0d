"""static-pod/separate on a node of real programs: the order of the two pods, a rotation and an outage
of OpenStack under load, and what a restart of one of the two costs.
"""

import json
import unittest

from cluster import CONFIG, IMPATIENT, PREFIX, SOCKET, OnNode
from node import FILES, STATIC_POD, guide, kubeadm_config, until
from traffic import Traffic

MANIFESTS = "/etc/kubernetes/manifests"
PLUGIN = f"{MANIFESTS}/barbican-kms.yaml"
SERVER = f"{MANIFESTS}/kube-apiserver.yaml"
ASIDE = "/root/aside.yaml"


class Separate(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encryption()
        # Without it, watches keep a stopping kube-apiserver until the kubelet kills the pod after 30 s.
        config = kubeadm_config("v1beta4", directory="separate").replace(
            "  extraArgs:\n", '  extraArgs:\n  - {name: shutdown-watch-termination-grace-period, value: "1s"}\n')
        cls.node.kubeadm(config)
        cls.node.kubelet()

    def test_1_kube_apiserver_starts_first_and_secrets_wait_for_the_plugin(self):
        until(lambda: "kube-apiserver answers\n" + self.node.report(),
              lambda: self.node.ok("kubectl", "--kubeconfig", "/etc/kubernetes/super-admin.conf", "get", "--raw", "/livez/ping"))
        server = self.one("kube-apiserver")
        self.assertEqual(self.node.processes("barbican-kms"), [])
        install = "install -m 0600 static-pod/separate/barbican-kms.yaml /etc/kubernetes/manifests/"
        self.assertIn(install, (STATIC_POD / "separate/README.md").read_text())
        self.node.exec("sh", "-euc", f"cd {FILES}; {install}")
        self.node.ready()
        self.kms_healthy()
        self.assertTrue(self.secret("first", "hush").startswith(PREFIX))
        self.assertEqual(self.get("first"), "hush")
        self.assertEqual(self.one("kube-apiserver"), server, "it waited; nobody had to restart it")

    def test_2_a_rotation_by_the_file_fails_no_request(self):
        old, new = self.keys[:2]
        pids = self.one("kube-apiserver"), self.one("barbican-kms")
        with Traffic(self.node) as traffic:
            traffic.steady()
            self.configure(old, new)
            until("both keys are held", lambda: {k["id"] for k in self.status()["keys"] if k["held"]} == {old, new})
            traffic.steady()
            self.configure(new, old)
            until("the new key writes", lambda: self.status()["write_key_id"] == new)
            names = iter(range(1000))
            until("kube-apiserver writes with the new key", lambda: new.encode() in self.secret(f"rotated-{next(names)}"), every=2)
            traffic.steady()
        self.assertEqual(traffic.failed(), [])
        self.assertEqual(self.get("first"), "hush")
        self.assertEqual((self.one("kube-apiserver"), self.one("barbican-kms")), pids)

    def test_3_a_rotation_by_a_container_asks_the_pod_of_the_plugin(self):
        self.node.allow_exec()
        present = self.keys[1]
        container, credential = self.container(present, self.keys[0])
        pinned = f"decrypt-key-ids = {self.keys[0]}\n" # nothing was migrated away from it
        self.node.write(CONFIG, self.following(self.node.read(CONFIG), container, credential) + pinned)
        until("the plugin follows the container", lambda: self.status()["ring"].get("container_id") == container)
        command = guide("Rotate the key", document="separate/README.md").strip()
        with Traffic(self.node) as traffic:
            traffic.steady()
            done = self.operator(f"cd {FILES}\n{command} {IMPATIENT} --json", check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            traffic.steady()
        self.assertEqual(traffic.failed(), [])
        new, = {node["write_key_id"] for node in json.loads(done.stdout)["nodes"]}
        self.assertNotIn(new, self.keys)
        self.assertIn(new.encode(), self.node.etcd_value("/registry/secrets/default/first"))
        self.assertEqual(self.get("first"), "hush")

    def test_4_without_openstack_nothing_fails_and_kube_apiserver_may_be_restarted(self):
        plugin = self.one("barbican-kms")
        self.openstack("down")
        try:
            with Traffic(self.node) as traffic:
                traffic.steady()
            self.assertEqual(traffic.failed(), [])
            self.restart(SERVER, "kube-apiserver")
            self.node.ready()
            self.kms_healthy()
            # Nothing of it was in the memory of this API server.
            self.assertEqual(self.get("first"), "hush")
            self.assertTrue(self.secret("in-the-outage").startswith(PREFIX))
        finally:
            self.openstack("up", "--tls")
        self.assertEqual(self.one("barbican-kms"), plugin)

    def test_5_a_restart_of_the_plugin_leaves_kube_apiserver_running(self):
        server = self.one("kube-apiserver")
        with Traffic(self.node) as traffic:
            traffic.steady()
            self.restart(PLUGIN, "barbican-kms")
            self.kms_healthy()
            traffic.steady()
        self.assertEqual(self.one("kube-apiserver"), server)
        self.assertTrue(self.secret("after-restart").startswith(PREFIX))
        print(f"\na restart of the plugin: {traffic.asked()} requests, {len(traffic.failed())} failed")
        self.assertEqual(traffic.failed(), [], "kube-apiserver has the seeds in memory")

    def restart(self, manifest, program):
        """As an upgrade of the pod does it: the manifest goes, the process ends, the manifest comes."""
        pid = self.one(program)
        self.node.exec("mv", manifest, ASIDE)
        until(f"{program} ends", lambda: not self.node.path(f"/proc/{pid}").exists())
        self.node.exec("mv", ASIDE, manifest)
        until(f"{program} runs", lambda: self.node.processes(program))

    def status(self):
        return json.loads(self.in_sidecar("/bin/barbican-kms", "status", "--json", f"--socketpath={SOCKET}").stdout)


if __name__ == "__main__":
    unittest.main()
