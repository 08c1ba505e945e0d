"""The static pod under a real kubelet and containerd, with a real Keystone and Barbican behind TLS."""

import base64
import contextlib
import json
import os
import re
import threading
import time
import unittest

from cluster import CONFIG, PREFIX, SOCKET, OnNode
from node import ADDRESS, FILES, STATIC_POD, guide, kubeadm_config, until

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ASIDE = "/etc/kubernetes/kube-apiserver.yaml.aside"


class Pod(OnNode):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.patches()
        cls.node.exec("mkdir", "-p", "/etc/kubernetes/encryption")
        cls.node.exec("sh", "-euc", f"cd {FILES}; " + guide("A new kubeadm cluster").splitlines()[0])
        # Without it, watches keep a stopping kube-apiserver until the kubelet kills the pod after 30 s.
        config = kubeadm_config("v1beta4").replace(
            "  extraArgs:\n", '  extraArgs:\n  - {name: shutdown-watch-termination-grace-period, value: "1s"}\n')
        cls.node.kubeadm(config)
        cls.node.kubelet()
        cls.node.ready()
        cls.node.exec("kubeadm", "init", "phase", "upload-config", "all", "--config", "/root/kubeadm.yaml")

    def status(self, pid):
        text = self.node.read(f"/proc/{pid}/status")
        return {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}

    def started(self, pid):
        return int(self.node.read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19])

    def pod(self):
        return json.loads(self.node.kubectl("get", "pod", "-n", "kube-system", "kube-apiserver-node-1", "-o", "json"))

    def test_1_a_new_cluster_writes_encrypted_from_the_first_secret_on(self):
        self.kms_healthy()
        self.assertTrue(self.secret("first", "hush").startswith(PREFIX))
        self.assertEqual(self.get("first"), "hush")
        self.assertTrue(self.follow("A new kubeadm cluster", 2).endswith(PREFIX.decode()))

    def test_1_kubeadm_init_would_write_the_sidecar(self):
        command = guide("A new kubeadm cluster").splitlines()[1] + " --dry-run --ignore-preflight-errors=all"
        config = command.split()[3]
        # That file, with what an operator adds.
        self.node.write("/root/init.yaml", kubeadm_config("v1beta4"))
        said = self.node.exec("sh", "-euc", command.replace(config, "/root/init.yaml")).stdout
        self.assertIn("image: localhost/barbican-kms", said)

    def test_1_kubeadm_join_writes_the_same_on_the_next_node(self):
        # The next node has the patches and its JoinConfiguration; the flags come from the cluster.
        config = (STATIC_POD / "kubeadm/join.v1beta4.yaml").read_text()
        config, n = re.subn(r"(?ms)^discovery:\n.*?(?=^\w)", "discovery: {file: {kubeConfigPath: /root/next/admin.conf}}\n", config)
        config, m = re.subn(r"(?m)^(controlPlane:\n)", rf"\1  localAPIEndpoint: {{advertiseAddress: {ADDRESS}}}\n", config)
        self.assertEqual((n, m), (1, 1))
        self.node.write("/root/next/join.yaml", config + "timeouts: {discovery: 60s}\n")
        self.node.exec("kubeadm", "init", "phase", "bootstrap-token", "--config", "/root/kubeadm.yaml")
        said = self.node.exec("unshare", "--mount", "sh", "-euc", """
            cp -a /etc/kubernetes/admin.conf /etc/kubernetes/pki /etc/kubernetes/patches /root/next
            mount -t tmpfs next /etc/kubernetes
            cp -a /root/next/admin.conf /root/next/pki /root/next/patches /etc/kubernetes
            kubeadm join phase control-plane-prepare control-plane --config /root/next/join.yaml >&2
            cat /etc/kubernetes/manifests/kube-apiserver.yaml""").stdout
        self.assertEqual(said, self.node.read(MANIFEST))

    def test_2_the_secrets_of_the_management_cluster(self):
        # This API server plays the management cluster.
        make = [line for line in guide("Cluster API").splitlines() if line.startswith(("kubectl create", "kubectl label"))]
        renew = guide("Cluster API", 2).splitlines()[0]
        self.assertEqual(len(make), 2)
        for content, commands in (("old", make), ("new", [renew])):
            self.node.write("/root/capi/cloud.conf", content)
            self.node.exec("env", "CLUSTER_NAME=c1", "bash", "-euo", "pipefail", "-c", "cd /root/capi\n" + "\n".join(commands))
            secret = json.loads(self.node.kubectl("get", "secret", "c1-barbican-kms", "-o", "json"))
            self.assertEqual(base64.b64decode(secret["data"]["cloud.conf"]).decode(), content)
            self.assertEqual(secret["metadata"]["labels"], {"clusterctl.cluster.x-k8s.io/move": "true"})

    def test_2_the_api_server_takes_the_mirror_pod_and_shows_the_sidecar(self):
        until("the mirror pod says that all runs", lambda: self.node.ok("kubectl", "wait", "--for=condition=Ready",
              "--timeout=1s", "-n", "kube-system", "pod/kube-apiserver-node-1"))
        status = self.pod()["status"]["initContainerStatuses"][0]
        self.assertEqual((status["name"], status["started"], status["ready"], status["restartCount"]),
                         ("barbican-kms", True, True, 0))

    def test_2_the_sidecar_started_before_kube_apiserver(self):
        self.assertLess(self.started(self.one("barbican-kms")), self.started(self.one("kube-apiserver")))

    def test_3_the_security_context_is_in_force(self):
        pid = self.one("barbican-kms")
        status = self.status(pid)
        self.assertEqual(status["Uid"].split(), ["0"] * 4)
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[capabilities], 16), 0, capabilities)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        mounts = {line.split()[4]: line.split()[5].split(",")[0] for line in self.node.read(f"/proc/{pid}/mountinfo").splitlines()}
        self.assertEqual([mounts[path] for path in ("/", "/etc/kubernetes/barbican-kms", "/etc/ssl/certs", "/run/barbican-kms")],
                         ["ro", "ro", "ro", "rw"])

    def test_3_the_key_is_where_not_even_root_reads_it(self):
        log = self.log_lines("listening; loading keys")
        self.assertIn("memfd_secret", log[-1], "the runtime's seccomp profile must allow memfd_secret")

    def test_3_the_socket_is_for_root_only(self):
        socket = self.node.path(f"/proc/{self.one('barbican-kms')}/root{SOCKET}")
        self.assertEqual(socket.stat().st_mode & 0o777, 0o600)

    def test_3_the_exec_probe_says_what_it_should(self):
        probe = "/bin/barbican-kms", "probe", f"--socketpath={SOCKET}"
        self.in_sidecar(*probe)
        self.in_sidecar(*probe, "--ready")
        self.in_sidecar(*probe, "--deep")
        self.assertNotEqual(self.in_sidecar(*probe[:2], "--socketpath=/run/barbican-kms/none", check=False).returncode, 0)

    def test_3_the_go_plugins_command_line_works_in_the_image(self):
        pid = self.one("barbican-kms")
        plugin = self.in_sidecar("/bin/barbican-kms-plugin", "version").stdout
        self.assertEqual(plugin, self.in_sidecar("/bin/barbican-kms", "version").stdout)
        # With flags alone it serves; this socket is taken, so it gets as far as saying that.
        taken = self.in_sidecar("/bin/barbican-kms-plugin", f"--socketpath={SOCKET}", f"--cloud-config={CONFIG}", check=False)
        self.assertIn(SOCKET, taken.stdout + taken.stderr)
        self.assertEqual(pid, self.one("barbican-kms"))

    def test_3_check_passes_inside_and_resolves_names(self):
        self.assertIn("https://localhost:", self.node.read(CONFIG))
        self.in_sidecar("/bin/barbican-kms", "check", "--cloud-config", CONFIG)

    def test_4_memory_stays_far_from_its_limit(self):
        pid = self.one("barbican-kms")
        status = self.status(pid)
        rss, anonymous = (int(status[k].split()[0]) for k in ("VmRSS", "RssAnon"))
        charged = self.cgroup_memory(pid) // 1024
        print(f"\nsidecar's memory: {rss} KiB resident, {anonymous} KiB of it its own; the container is charged {charged} KiB")
        self.assertLess(charged, 16 * 1024, "the request in the patch")

    def cgroup_memory(self, pid):
        """What the kernel counts against the container's limit."""
        for line in self.node.read(f"/proc/{pid}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            for file in (f"/sys/fs/cgroup/memory{path}/memory.usage_in_bytes", f"/sys/fs/cgroup{path}/memory.current"):
                if controllers in ("memory", "") and self.node.path(file).exists():
                    return int(self.node.read(file))
        self.fail("no memory cgroup")

    def test_5_a_killed_sidecar_comes_back_alone(self):
        server, sidecar = self.one("kube-apiserver"), self.one("barbican-kms")
        self.node.exec("kill", "-KILL", sidecar)
        until("another sidecar runs", lambda: [p for p, _ in self.node.processes("barbican-kms") if p != sidecar])
        self.kms_healthy()
        self.assertEqual(self.one("kube-apiserver"), server)
        self.assertTrue(self.secret("after-kill").startswith(PREFIX))

    def test_6_an_edited_config_is_picked_up_inside(self):
        old, new = self.keys[:2]
        sidecar = self.one("barbican-kms")
        self.configure(new, old)
        until("Status names the new key", lambda: new in self.in_sidecar(
            "/bin/barbican-kms", "probe", f"--socketpath={SOCKET}", "--deep", "--show", check=False).stdout)
        names = iter(range(1000))
        until("kube-apiserver writes with the new key",
              lambda: new.encode() in self.secret(f"rotated-{next(names)}"), every=2)
        self.assertEqual(self.get("first"), "hush")
        self.assertEqual(self.one("barbican-kms"), sidecar)

    def test_7_the_sidecar_ends_after_kube_apiserver_and_everything_comes_back(self):
        server, sidecar = self.one("kube-apiserver"), self.one("barbican-kms")
        runs = lambda pid: self.node.path(f"/proc/{pid}").exists()
        self.node.exec("mv", MANIFEST, ASIDE)
        until("kube-apiserver ends", lambda: not runs(server), 90, every=0.005)
        # Looked at after kube-apiserver was seen to be gone.
        self.assertTrue(runs(sidecar), "the sidecar ended before kube-apiserver")
        until("the sidecar ends", lambda: not runs(sidecar), 60)
        self.assertTrue(self.log_lines("stopped"), "the sidecar was not asked to end")
        self.node.exec("mv", ASIDE, MANIFEST)
        self.node.ready()
        self.kms_healthy()
        self.assertEqual(self.get("first"), "hush")

    def test_8_a_node_boots_while_openstack_is_down_and_heals_by_itself(self):
        self.openstack("down")
        self.node.exec("mv", MANIFEST, ASIDE)
        until("kube-apiserver is gone", lambda: not self.node.processes("kube-apiserver"))
        self.node.exec("mv", ASIDE, MANIFEST)
        until("kube-apiserver answers", lambda: self.node.ok("kubectl", "get", "--raw", "/livez/ping"))
        self.assertFalse(self.node.ok("kubectl", "get", "--raw", "/readyz/kms-providers"))
        sidecar = self.one("barbican-kms")
        self.openstack("up", "--tls")
        self.kms_healthy(180)
        self.node.ready()
        self.assertEqual(self.get("first"), "hush")
        self.assertEqual(self.one("barbican-kms"), sidecar, "it waited; nobody had to restart it")

    def test_91_an_upgrade_with_the_patches_keeps_the_sidecar(self):
        before = self.node.read(MANIFEST)
        config = (STATIC_POD / "kubeadm/upgrade.v1beta4.yaml").read_text()
        self.assertEqual(self.upgrade_by(config.replace("node:\n", "node:\n  etcdUpgrade: false\n")), 0)
        self.assertEqual(self.node.read(MANIFEST), before)
        # The guide's command, as far as the static pods go.
        command = guide("Upgrade").splitlines()[1].replace("upgrade node", "upgrade node phase control-plane --etcd-upgrade=false")
        self.node.exec("sh", "-euc", command)
        self.assertEqual(self.node.read(MANIFEST), before)

    def upgrade_by(self, config):
        """kubeadm upgrade node, as far as the static pods go."""
        self.node.write("/root/upgrade.yaml", config + "timeouts: {upgradeManifests: 60s}\n")
        result = self.node.exec("kubeadm", "upgrade", "node", "phase", "control-plane", "--config", "/root/upgrade.yaml", check=False)
        print(result.stderr if result.returncode else "", end="")
        return result.returncode

    def test_92_kubeadms_manifest_without_patches_does_not_start(self):
        # The flag is there, its file is not: what test_93 goes through with kubeadm itself.
        self.node.exec("cp", "-p", MANIFEST, ASIDE)
        self.node.write("/root/nopatch.yaml", re.sub(r"patches:\n  directory: .*\n", "", kubeadm_config("v1beta4")))
        self.node.exec("kubeadm", "init", "phase", "control-plane", "apiserver", "--config", "/root/nopatch.yaml")
        self.assertNotIn("barbican-kms", self.node.read(MANIFEST))
        until("the new kube-apiserver says why it ends", lambda: any(
            "encryption-config.yaml: no such file" in path.read_text()
            for path in self.node.path("/var/log/pods").glob("*kube-apiserver*/kube-apiserver/*.log")))
        self.node.exec("mv", ASIDE, MANIFEST)
        self.node.ready()
        self.kms_healthy()
        self.assertEqual(self.get("first"), "hush")

    @unittest.skipUnless(os.environ.get("BARBICAN_KMS_LONG"), "kubeadm waits for minutes: BARBICAN_KMS_LONG=1")
    def test_93_an_upgrade_without_patches_is_rolled_back_and_writes_no_clear_text(self):
        before = self.node.read(MANIFEST)
        bare, ended = threading.Event(), threading.Event()

        def watch():
            while not ended.wait(0.2):
                with contextlib.suppress(OSError):
                    if "barbican-kms" not in self.node.read(MANIFEST):
                        bare.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            config = (STATIC_POD / "kubeadm/upgrade.v1beta4.yaml").read_text()
            config = re.sub(r"  patches:\n    directory: .*\n", "", config).replace("apply:", "apply: {}")
            code = self.upgrade_by(config.replace("node:", "node:\n  etcdUpgrade: false"))
        finally:
            ended.set()
            watcher.join()
        self.assertNotEqual(code, 0)
        self.assertTrue(bare.is_set(), "kubeadm did write a manifest without the sidecar")
        self.assertEqual(self.node.read(MANIFEST), before)
        self.node.ready()
        self.kms_healthy()
        self.assertEqual(self.get("first"), "hush")
        self.assertTrue(self.secret("after-upgrade").startswith(PREFIX))

    def log_lines(self, text):
        lines = []
        for path in sorted(self.node.path("/var/log/pods").glob("*kube-apiserver*/barbican-kms/*.log")):
            with contextlib.suppress(OSError):
                lines += [line for line in path.read_text().splitlines() if text in line]
        return lines


if __name__ == "__main__":
    unittest.main()
