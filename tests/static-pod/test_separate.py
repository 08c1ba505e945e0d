"""The plugin in a static pod of its own, as kubeadm, the kubelet and `check` take it."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from node import STATIC_POD, Root, kubeadm_config, programs, run

PLUGIN = STATIC_POD / "separate/barbican-kms.yaml"
PATCH = STATIC_POD / "kubeadm/patches/kube-apiserver-barbican-kms+strategic.yaml"


def pods(*files):
    return [json.loads(line) for line in run(programs()[1] / "pods", "json", *files).stdout.splitlines()]


class Separate(unittest.TestCase):
    def setUp(self):
        directory = tempfile.mkdtemp(prefix="barbican-kms-separate-")
        self.addCleanup(shutil.rmtree, directory)
        self.root = Root(directory)
        self.manifests = self.root.path / "etc/kubernetes/manifests"
        self.server = self.root.manifest(kubeadm_config("v1beta4", directory="separate"))
        shutil.copy(PLUGIN, self.manifests)

    def check(self, name):
        """What check says of a manifest beside the others of the node."""
        done = subprocess.run(
            [os.environ["BARBICAN_KMS_BIN"], "check", "--encryption-config", STATIC_POD / "encryption-config.yaml",
             "--manifest", self.manifests / name], capture_output=True, text=True, check=False)
        return done.returncode, [line for line in done.stdout.splitlines() if "kube-apiserver reads" not in line]

    def test_the_kubelet_takes_both_pods(self):
        files = sorted(self.manifests.iterdir())
        self.assertEqual([file.name for file in files], ["barbican-kms.yaml", "kube-apiserver.yaml"])
        self.assertNotIn("refused", run(programs()[1] / "pods", "judge", *files).stdout)

    def test_check_passes_both_pods_without_a_doubt(self):
        for name in ("barbican-kms.yaml", "kube-apiserver.yaml"):
            code, lines = self.check(name)
            doubts = [line for line in lines if line.lstrip().startswith(("warning:", "FAIL"))]
            self.assertEqual((code, doubts), (0, []))

    def test_check_says_when_the_pod_of_the_plugin_is_missing(self):
        (self.manifests / "barbican-kms.yaml").unlink()
        self.assertIn("nobody listens on /run/barbican-kms/kms.sock", "\n".join(self.check("kube-apiserver.yaml")[1]))

    def test_the_container_is_the_sidecars(self):
        own, = pods(PLUGIN)[0]["spec"]["containers"]
        sidecar, = pods(PATCH)[0]["spec"]["initContainers"]
        del sidecar["restartPolicy"] # which in a static pod is the pod's
        self.assertEqual(own, sidecar)

    def test_both_pods_mount_one_directory_of_the_node(self):
        volumes = [next(v for v in pod["spec"]["volumes"] if v["name"] == "barbican-kms-socket")
                   for pod in pods(*sorted(self.manifests.iterdir()))]
        self.assertEqual(volumes, [{"name": "barbican-kms-socket", "hostPath":
                                    {"path": "/run/barbican-kms", "type": "DirectoryOrCreate"}}] * 2)

    def test_kubeadm_needs_no_patch(self):
        text = (STATIC_POD / "separate/init.v1beta4.yaml").read_text()
        run(programs()[0] / "kubeadm", "config", "validate", "--config", STATIC_POD / "separate/init.v1beta4.yaml")
        self.assertNotIn("patches:", text)


if __name__ == "__main__":
    unittest.main()
