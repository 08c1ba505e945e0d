"""The sidecar from one version to the next and back by the guide's steps, under load, on a node of
real programs: no request fails but those that the restart of the pod by the kubelet costs.

BARBICAN_KMS_NEXT is a static program of the other version; without it the same program with another
version number in it stands in.
"""

import collections
import json
import os
import pathlib
import re
import shutil

from cluster import PREFIX, OnNode, images, sidecar
from node import FILES, IMAGE, STATIC_POD, guide, kubeadm_config, run, until
from traffic import Traffic, not_ready

NEXT = "localhost/barbican-kms:next"
# What the guide advises where restarts should be quick.
FLAG = '  - {name: shutdown-watch-termination-grace-period, value: "5s"}\n'


def unpacked(directory, image):
    """What the guide needs of a release whose manifests name this image."""
    for path in ("static-pod", "scripts/install-sidecar"):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (FILES / path).is_dir() else shutil.copy)(FILES / path, target)
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
        cls.archives = {IMAGE: images()[-1], NEXT: sidecar(NEXT, os.environ.get("BARBICAN_KMS_NEXT") or cls.renumbered())}

    @classmethod
    def renumbered(cls):
        """The program, with another version number of the same length."""
        program = pathlib.Path(os.environ["BARBICAN_KMS_BIN"])
        number = re.search(r"\d+\.\d+\.\d+", run(program, "version").stdout)[0]
        other = number[:-1] + ("1" if number[-1] != "1" else "2")
        copy = pathlib.Path(cls.directory) / "next"
        copy.write_bytes(program.read_bytes().replace(number.encode(), other.encode()))
        copy.chmod(0o755)
        return copy

    def move(self, image):
        """The guide's steps, in the release that has this image."""
        place = pathlib.Path("/root") / image.rsplit(":", 1)[1]
        unpacked(self.node.path(place), image)
        shutil.copy(self.archives[image], self.node.path(place / "image.tar"))
        commands, n = re.subn(r"barbican-kms-[0-9.]+-image\.tar", "image.tar", guide("Upgrade", 2))
        self.assertEqual(n, 1)
        said = self.node.exec("bash", "-euo", "pipefail", "-c", f"cd {place}\n{commands}")
        self.assertIn("kube-apiserver is ready and uses the sidecar", said.stderr)
        self.assertIn(image, self.node.read("/etc/kubernetes/manifests/kube-apiserver.yaml"))
        until("the mirror pod shows the image", lambda: image in self.images_of_the_pod())

    def images_of_the_pod(self):
        pod = json.loads(self.node.kubectl("get", "pod", "-n", "kube-system", "kube-apiserver-node-1", "-o", "json"))
        return [status["image"] for status in pod["status"].get("initContainerStatuses", [])]

    def version(self):
        return self.in_sidecar("/bin/barbican-kms", "version").stdout

    def test_to_the_next_version_and_back_under_load(self):
        self.kms_healthy()
        before = self.version()
        with Traffic(self.node) as traffic:
            traffic.steady()
            for image in (NEXT, IMAGE):
                self.move(image)
                print(f"\n{image}: {self.version().strip()}")
                self.assertEqual(self.version() == before, image == IMAGE)
                traffic.steady()
        self.assertEqual(self.version(), before)
        windows, failed = not_ready(traffic.results()), traffic.failed()
        self.assertEqual(len(windows), 2, f"one restart for each move: {windows}")
        outside = [r for r in failed if not any(begin <= r["ended"] and r["began"] <= end for begin, end in windows)]
        self.assertEqual(outside[:5], [], "failed while kube-apiserver was ready")
        for direction, (begin, end) in zip(("to the next version", "back"), windows):
            print(f"{direction}: kube-apiserver was not ready for {end - begin:.1f} s")
        kinds = collections.Counter(re.match(r"\w+", r["how"])[0] for r in failed)
        print(f"{traffic.asked()} requests, {len(failed)} of them failed, all while it was not ready: {dict(kinds)}")
        # The first and the last, made by the same version, with another one between.
        names = self.node.kubectl("get", "secrets", "--sort-by=.metadata.creationTimestamp", "-o", "name").split()
        for name in (names[0].split("/")[1], names[-1].split("/")[1]):
            self.assertTrue(self.node.etcd_value(f"/registry/secrets/default/{name}").startswith(PREFIX))
            self.assertEqual(self.get(name), name)
