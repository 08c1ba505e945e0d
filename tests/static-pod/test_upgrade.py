"""The sidecar from one version to the next and back by the guide's steps, under load, on a node of
real programs: no request fails but those that the restart of the pod by the kubelet costs.

BARBICAN_KMS_NEXT is a static program of another version; without it both images hold the same one.
"""

import collections
import json
import os
import pathlib
import re
import shutil

from cluster import PREFIX, OnNode, images, sidecar
from node import IMAGE, REPO, STATIC_POD, guide, kubeadm_config, until

NEXT = "localhost/barbican-kms:next"
# What the guide advises where restarts should be quick.
FLAG = '  - {name: shutdown-watch-termination-grace-period, value: "5s"}\n'


def unpacked(directory, image):
    """What the guide needs of a release whose manifests name this image."""
    for path in ("static-pod", "scripts/install-sidecar"):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (REPO / path).is_dir() else shutil.copy)(REPO / path, target)
    for patch in (directory / "static-pod/kubeadm/patches").iterdir():
        text = patch.read_text()
        assert text.count(IMAGE) == 1
        patch.write_text(text.replace(IMAGE, image))


class Upgrade(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.patches()
        cls.encryption()
        cls.node.kubeadm(kubeadm_config("v1beta4").replace("  extraArgs:\n", "  extraArgs:\n" + FLAG))
        cls.node.kubelet()
        cls.node.ready()
        cls.archives = {IMAGE: images()[-1],
                        NEXT: sidecar(NEXT, os.environ.get("BARBICAN_KMS_NEXT") or os.environ["BARBICAN_KMS_BIN"])}

    def move(self, image):
        """The guide's steps, in the release that has this image."""
        place = pathlib.Path("/root") / image.rsplit(":", 1)[1]
        unpacked(self.node.path(place), image)
        shutil.copy(self.archives[image], self.node.path(place / "image.tar"))
        commands, n = re.subn(r"barbican-kms-[0-9.]+-image\.tar", "image.tar", guide("Upgrade", 2))
        self.assertEqual(n, 1)
        said = self.node.exec("bash", "-euo", "pipefail", "-c", f"cd {place}\n{commands}")
        self.assertIn("kube-apiserver is ready and has asked the sidecar", said.stderr)
        self.assertIn(image, self.node.read("/etc/kubernetes/manifests/kube-apiserver.yaml"))
        until("the mirror pod shows the image", lambda: image in self.images_of_the_pod())

    def images_of_the_pod(self):
        pod = json.loads(self.node.kubectl("get", "pod", "-n", "kube-system", "kube-apiserver-node-1", "-o", "json"))
        return [status["image"] for status in pod["status"].get("initContainerStatuses", [])]

    def version(self):
        return self.in_sidecar("/bin/barbican-kms", "version").stdout

    def results(self):
        lines = (self.node.log / "load.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def steady(self):
        """Waits until thirty Secrets more are made."""
        since = len(self.results())
        until("requests go through", lambda: sum(r["how"] == "ok" and r["what"] == "create" for r in self.results()[since:]) > 30)

    def load(self):
        """Starts the requests; returns what ends them."""
        (self.node.log / "load.jsonl").touch()
        load = self.node.start("load", "sh", "-c", "echo $$ >/root/load.pid; exec python3 " + " ".join(
            [f"{REPO}/tests/static-pod/load.py", "/etc/kubernetes/admin.conf", f"{self.node.log}/load.jsonl", "4"]))

        def end():
            self.node.exec("kill", self.node.read("/root/load.pid").strip())
            self.assertEqual(load.wait(60), 0, (self.node.log / "load.log").read_text())
        return end

    def test_to_the_next_version_and_back_under_load(self):
        self.kms_healthy()
        before = self.version()
        end = self.load()
        self.steady()
        for image in (NEXT, IMAGE):
            self.move(image)
            print(f"\n{image}: {self.version().strip()}")
            self.steady()
        end()
        results = self.results()
        self.assertEqual(self.version(), before)
        windows = not_ready(results)
        self.assertEqual(len(windows), 2, f"one restart for each move: {windows}")
        failed = [r for r in results if r["what"] != "ready" and r["how"] != "ok"]
        outside = [r for r in failed if not any(begin <= r["ended"] and r["began"] <= end for begin, end in windows)]
        self.assertEqual(outside[:5], [], "failed while kube-apiserver was ready")
        for direction, (begin, end) in zip(("to the next version", "back"), windows):
            print(f"{direction}: kube-apiserver was not ready for {end - begin:.1f} s")
        asked = sum(r["what"] != "ready" for r in results)
        kinds = collections.Counter(re.match(r"\w+", r["how"])[0] for r in failed)
        print(f"{asked} requests, {len(failed)} of them failed, all while it was not ready: {dict(kinds)}")
        # The first and the last, made by the same version, with another one between.
        names = self.node.kubectl("get", "secrets", "--sort-by=.metadata.creationTimestamp", "-o", "name").split()
        for name in (names[0].split("/")[1], names[-1].split("/")[1]):
            self.assertTrue(self.node.etcd_value(f"/registry/secrets/default/{name}").startswith(PREFIX))
            self.assertEqual(self.get(name), name)


def not_ready(results):
    """From the last answer of a ready kube-apiserver to the first after it, wherever one was not."""
    windows, good, bad = [], None, False
    for result in sorted((r for r in results if r["what"] == "ready"), key=lambda r: r["began"]):
        if result["how"] != "ok":
            bad = True
            continue
        if bad and good is not None:
            windows.append((good, result["ended"]))
        good, bad = result["began"], False
    return windows
