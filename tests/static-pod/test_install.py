"""scripts/install-sidecar on a running kubeadm node, with a real kubelet under it."""

import os
import re
import shutil
import unittest

from cluster import CONFIG, ENCRYPTION, PREFIX, OnNode, images
from node import FILES, IMAGE, STATIC_POD, guide, kubeadm_config, until

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
BACKUPS = "/etc/kubernetes/barbican-kms-backup"
# Lets kube-apiserver end before the kubelet kills it after 30 s; the tests restart it often.
FLAG = 'apiServer: {extraArgs: [{name: shutdown-watch-termination-grace-period, value: "1s"}]}\n'
TOOL = FILES / "scripts/install-sidecar"


class Install(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A cluster that has never heard of encryption.
        plain = re.sub(r"patches:\n  directory: .*\n", "", kubeadm_config("v1beta4"))
        cls.plain = plain[: plain.index("apiServer:")] + FLAG
        cls.node.kubeadm(cls.plain)
        cls.before = cls.node.read(MANIFEST)
        cls.node.kubelet()
        cls.node.ready()
        cls.node.exec("kubeadm", "init", "phase", "upload-config", "kubeadm", "--config", "/root/kubeadm.yaml")

    def install(self, *arguments, check=True):
        return self.node.exec(TOOL, *arguments, check=check)

    def refused(self, *arguments):
        """Runs it, expects a refusal that changes nothing, returns what it says."""
        before = self.node.read(MANIFEST)
        result = self.install(*arguments, check=False)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertEqual(self.node.read(MANIFEST), before)
        return result.stderr

    def test_01_it_says_what_is_missing_and_changes_nothing(self):
        self.assertIn("no patch for the sidecar", self.refused())
        self.follow("Before you begin: key, credential, files", 4)
        self.assertIn("encryption-config.yaml: not there", self.refused())
        self.encryption("encryption-config-read.yaml")
        self.node.exec("ctr", "-n", "k8s.io", "images", "rm", IMAGE)
        self.assertIn(f"the image {IMAGE} is not on this node", self.refused())
        bring = guide("Before you begin: key, credential, files", 5).splitlines()[-1]
        self.node.exec("sh", "-euc", f"ln -s {images()[-1]} /root/barbican-kms.tar; cd /root; {bring}")

    def test_02_it_refuses_a_cloud_config_that_does_not_work(self):
        good = self.node.read(CONFIG)
        self.node.write(CONFIG, re.sub(r"(?m)^application-credential-secret = .*", "application-credential-secret = wrong", good))
        self.assertIn("the cloud-config does not work", self.refused())
        self.node.write(CONFIG, good)

    def test_03_a_dry_run_prints_the_difference_and_changes_nothing(self):
        before = self.node.read(MANIFEST)
        diff = self.install("--dry-run").stdout
        self.assertIn("+    - --encryption-provider-config=" + ENCRYPTION, diff)
        self.assertIn("+    restartPolicy: Always", diff)
        self.assertNotRegex(diff, r"(?m)^-[^-]")
        self.assertEqual(self.node.read(MANIFEST), before)
        self.assertEqual(list(self.node.path(BACKUPS).glob("kube-apiserver*")), [])

    def test_04_it_rolls_back_a_kube_apiserver_that_does_not_start(self):
        patch = "/etc/kubernetes/patches/kube-apiserver-barbican-kms-zz+strategic.yaml"
        arguments = f"[serve, --nonsense, --socketpath=/run/barbican-kms/kms.sock, --cloud-config={CONFIG}]"
        self.node.write(patch, f"spec: {{initContainers: [{{name: barbican-kms, args: {arguments}}}]}}\n")
        self.addCleanup(lambda: self.node.path(patch).unlink(missing_ok=True))
        before = self.node.read(MANIFEST)
        result = self.install("--timeout", "45", check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("rolled back, kube-apiserver is ready again", result.stderr)
        self.assertEqual(self.node.read(MANIFEST), before)
        # The kubelet removes the pod's logs; the reason is kept.
        log = re.search(r"the logs of sidecar and kube-apiserver are in (\S+)", result.stderr)[1]
        self.assertIn("--nonsense", self.node.read(log))

    def test_041_an_end_of_the_session_puts_the_old_manifest_back(self):
        before = self.node.read(MANIFEST)
        process = self.node.start("install", "sh", "-c", f"echo $$ >/root/install.pid; exec {TOOL}")
        until("the new manifest is there", lambda: "barbican-kms" in self.node.read(MANIFEST))
        until("kube-apiserver ends", lambda: not self.node.ok("kubectl", "get", "--raw", "/livez/ping"))
        self.node.exec("kill", "-HUP", self.node.read("/root/install.pid").strip())
        self.assertEqual(process.wait(60), 129)
        self.assertEqual(self.node.read(MANIFEST), before)
        self.node.ready()
        self.assertEqual(self.node.processes("barbican-kms"), [])

    def test_05_it_installs_and_waits_until_the_sidecar_is_asked(self):
        plain = self.secret("written-before", "old").startswith(b"k8s\0")
        self.assertTrue(plain)
        said = self.follow("An existing kubeadm cluster")
        self.assertIn("kube-apiserver is ready and uses the sidecar", said)
        self.assertIn("kubeadm upgrade --patches", said)
        self.assertIn("kubeadm-config does not have the flags yet", said)
        self.kms_healthy(1)
        self.assertEqual(self.node.path(MANIFEST).stat().st_mode & 0o777, 0o600)
        self.assertEqual([p.name for p in self.node.path(MANIFEST).parent.iterdir() if "apiserver" in p.name], ["kube-apiserver.yaml"])
        newest = max(self.node.path(BACKUPS).glob("kube-apiserver.yaml.*"))
        self.assertEqual(newest.read_text(), self.before)

    def test_06_it_writes_what_kubeadm_writes_with_patches_and_flags(self):
        installed = self.node.read(MANIFEST)
        both = kubeadm_config("v1beta4").replace(
            "  extraArgs:\n", '  extraArgs:\n  - {name: shutdown-watch-termination-grace-period, value: "1s"}\n')
        self.node.write("/root/full.yaml", both)
        self.node.exec("cp", MANIFEST, "/root/installed.yaml")
        self.node.exec("sh", "-c", "mkdir -p /root/other/etc && cp -r /etc/kubernetes /etc/ssl /root/other/etc/ && "
                       "mkdir -p /root/other/usr/share/ca-certificates /root/other/usr/local/share/ca-certificates "
                       "/root/other/tmp && cp /root/full.yaml /root/other/ && [ ! -d /etc/ca-certificates ] || "
                       "mkdir -p /root/other/etc/ca-certificates")
        self.node.exec("kubeadm", "--rootfs", "/root/other", "init", "phase", "control-plane", "apiserver", "--config", "/full.yaml")
        self.assertEqual(self.node.read("/root/other" + MANIFEST), installed)

    def test_07_a_second_run_changes_nothing(self):
        before = self.node.path(MANIFEST).stat()
        self.assertIn("nothing to change", self.install().stderr)
        after = self.node.path(MANIFEST).stat()
        self.assertEqual((before.st_mtime_ns, before.st_ino), (after.st_mtime_ns, after.st_ino))

    def test_071_the_options_work_together_and_go_again(self):
        before = self.node.read(MANIFEST)
        for option in ("rootless", "startup-probe", "metrics"):
            for file in (STATIC_POD / "kubeadm/options" / option).iterdir():
                self.node.write(f"/etc/kubernetes/patches/{file.name}", file.read_text())
        # Checked as the user that the sidecar will be, who cannot read this yet.
        self.assertIn("the cloud-config does not work", self.refused())
        directory = "/etc/kubernetes/barbican-kms"
        self.node.exec("sh", "-c", f"chown -R root:65532 {directory} && chmod 0750 {directory} && chmod 0640 {directory}/*")
        self.install()
        status = self.node.read(f"/proc/{self.one('barbican-kms')}/status")
        self.assertRegex(status, r"Uid:\t65532\t65532\t65532\t65532\nGid:\t65532")
        socket = self.node.path(f"/proc/{self.one('barbican-kms')}/root/run/barbican-kms/kms.sock").stat()
        self.assertEqual((socket.st_uid, socket.st_gid, socket.st_mode & 0o777), (65532, 65532, 0o660))
        # kube-apiserver is in that group, whichever user it runs as.
        groups = re.search(r"Groups:(.*)", self.node.read(f"/proc/{self.one('kube-apiserver')}/status"))[1].split()
        self.assertIn("65532", groups)
        self.node.exec("sh", "-c", "rm /etc/kubernetes/patches/*-rootless* /etc/kubernetes/patches/*-startup* /etc/kubernetes/patches/*-metrics*")
        # Root without its powers reads what is root's.
        self.node.exec("sh", "-c", f"chown -R root:root {directory} && chmod 0600 {directory}/*")
        self.install()
        self.assertEqual(self.node.read(MANIFEST), before)

    def test_08_read_first_then_write_without_a_restart(self):
        server = self.one("kube-apiserver")
        self.assertTrue(self.secret("read-stage").startswith(b"k8s\0"), "the read stage writes clear text")
        self.follow("An existing kubeadm cluster", 2)
        # It has waited: the first write is encrypted.
        self.assertTrue(self.secret("write-stage").startswith(PREFIX))
        self.assertEqual(self.one("kube-apiserver"), server)
        counts = re.findall(r"(?m)^\d+$", self.follow("An existing kubeadm cluster", 3))
        self.assertEqual(len(counts), 2)
        self.assertEqual(counts[0], counts[1])
        self.assertTrue(self.node.etcd_value("/registry/secrets/default/written-before").startswith(PREFIX))
        self.assertEqual(self.get("written-before"), "old")

    def test_081_kubeadm_learns_the_flags(self):
        editor = "sed -i 's|^  extraArgs:|&\\n  - {name: encryption-provider-config, value: " + ENCRYPTION + "}|'"
        self.node.write("/root/editor", "#!/bin/sh\nexec " + editor + ' "$1"\n', 0o700)
        self.node.exec("mkdir", "-p", "/root/guide")
        commands = guide("An existing kubeadm cluster", 4)
        self.node.exec("env", "EDITOR=/root/editor", "bash", "-euo", "pipefail", "-c", f"cd /root/guide\n{commands}")
        stored = self.node.kubectl("-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "yaml")
        self.assertIn("value: " + ENCRYPTION, stored)

    def test_10_the_way_back_works_without_the_key_in_barbican(self):
        self.assertIn("make identity the first provider", self.refused("--uninstall"))
        # The disaster of the guide: the key is gone, the running sidecar still has it.
        self.openstack("ctl", "secret-delete", self.keys[0])
        self.follow("Rollback", 1)
        self.assertTrue(self.secret("back").startswith(b"k8s\0"), "it has waited: the first write is clear text")
        self.assertRegex(self.refused("--uninstall"), r"etcd holds \d+ encrypted objects, such as /registry/secrets/")
        self.assertIn("etcd holds 0 encrypted objects", self.follow("Rollback", 2))
        self.assertIn("-    restartPolicy: Always", self.install("--uninstall", "--dry-run").stdout)
        self.follow("Rollback", 3)
        self.assertEqual(self.node.read(MANIFEST), self.before)
        self.assertEqual(self.get("written-before"), "old")
        self.assertEqual(self.node.processes("barbican-kms"), [])

    def test_11_it_takes_the_place_of_the_go_plugin(self):
        # As the Go plugin's guide has an operator do it (with its slips corrected). The plugin itself is
        # played by this one; that both write the same bytes is for other tests.
        self.configure(self.keys[1])
        shutil.copy(os.environ["BARBICAN_KMS_BIN"], self.node.path("/usr/bin/go-plugin"))
        self.node.exec("mkdir", "-p", "/var/lib/kms")
        plugin = self.node.start("go-plugin", "go-plugin", "serve", "--socketpath=/var/lib/kms/kms.sock", f"--cloud-config={CONFIG}")
        old = "/etc/kubernetes/encryption-config.yaml"
        config = (STATIC_POD / "encryption-config.yaml").read_text().replace("/run/barbican-kms/", "/var/lib/kms/")
        self.node.write(old, config)
        go = self.before.replace("    - --etcd-cafile", f"    - --encryption-provider-config={old}\n    - --etcd-cafile")
        for name, path in (("kms-sock", "/var/lib/kms"), ("encryption-config", old)):
            go = go.replace("    volumeMounts:\n", f"    volumeMounts:\n    - mountPath: {path}\n      name: {name}\n", 1)
            go = go.replace("  volumes:\n", f"  volumes:\n  - hostPath:\n      path: {path}\n    name: {name}\n", 1)
        self.node.exec("rm", "-f", ENCRYPTION)
        self.node.write(MANIFEST, go)
        until("kube-apiserver encrypts with the Go plugin", lambda: self.node.ok("kubectl", "get", "--raw", "/readyz/kms-providers"))
        self.node.ready()
        self.assertTrue(self.secret("by-the-go-plugin", "hush").startswith(PREFIX))
        self.patches()
        self.encryption()
        # Another resource, which the new file would leave unreadable.
        self.node.write(old, config.replace("  - secrets\n", "  - secrets\n  - configmaps\n"))
        self.assertIn("opens: configmaps identity {}, configmaps kms barbican v2.", self.refused())
        self.node.write(old, config)
        said = self.follow("From the Go plugin")
        self.assertIn(f"changes --encryption-provider-config={old}", said)
        self.assertIn("kube-apiserver is ready and uses the sidecar", said)
        self.node.exec("pkill", "-x", "go-plugin")
        plugin.wait(30)
        manifest = self.node.read(MANIFEST)
        for gone in ("name: kms-sock\n", "name: encryption-config\n", "/var/lib/kms", old):
            self.assertNotIn(gone, manifest)
        self.assertEqual(self.get("by-the-go-plugin"), "hush")
        self.assertTrue(self.secret("by-the-sidecar").startswith(PREFIX))


if __name__ == "__main__":
    unittest.main()
