"""scripts/install-sidecar over files of /etc/kubernetes, with a kube-apiserver that only pretends.

What takes a real one is in test_install.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.request

from node import REPO, STATIC_POD, programs, run, until

TOOL = REPO / "scripts/install-sidecar"
MANIFEST = "kubernetes/manifests/kube-apiserver.yaml"
ENCRYPTION = "kubernetes/encryption/encryption-config.yaml"
GO_CONFIG = "kubernetes/encryption-config.yaml"
READY = "process_start_time_seconds 9e+09\n"
NOT_STARTED_AGAIN = "process_start_time_seconds 1\n"
LOADED = 'apiserver_encryption_config_controller_last_config_info{apiserver_id_hash="sha256:00",hash="sha256:%s"} 1\n'
RELOADED = 'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="",status="%s"} %s\n'

# Answers what is asked of the server, and leaves the rest to the real one.
KUBECTL = """#!/bin/sh
case " $* " in
*" get --raw /metrics "*) echo "$*" >>{state}/asked; exec cat {state}/metrics ;;
*" get --raw /readyz "*) exec cat {state}/readyz ;;
*" get --raw /readyz/kms-providers "*) exit 0 ;;
*" get configmap "*) exit 1 ;;
esac
exec {real} "$@"
"""

# Without an OpenStack, the cloud-config is as good as a file says.
PROGRAM = """#!/bin/sh
case " $* " in *" --cloud-config "*) exit "$(cat {state}/cloud-config)" ;; esac
exec {real} "$@"
"""


@unittest.skipUnless(os.geteuid() == 0, "mounts its own /etc")
class Tool(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-tool-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.etc, self.state = self.directory / "etc", self.directory / "state"
        for name in ("work", "state", "bin", "etc/kubernetes/manifests", "etc/kubernetes/patches"):
            (self.directory / name).mkdir(parents=True)
        self.script("bin/kubectl", KUBECTL.format(state=self.state, real=programs()[0] / "kubectl"))
        self.script("program", PROGRAM.format(state=self.state, real=os.environ["BARBICAN_KMS_BIN"]))
        self.pretend(metrics=READY, readyz="ok", **{"cloud-config": "0"})
        self.patch("patches")
        self.put(ENCRYPTION, (STATIC_POD / "encryption-config.yaml").read_text())
        self.put("kubernetes/barbican-kms/cloud.conf", "")
        self.full = re.sub(r"(?m)^#.*\n", "", (STATIC_POD / "kube-apiserver.yaml").read_text())
        self.put(MANIFEST, self.full)

    def script(self, name, text):
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o755)

    def pretend(self, **answers):
        for name, text in answers.items():
            (self.state / name).write_text(text)

    def put(self, name, text):
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def manifest(self):
        return (self.etc / MANIFEST).read_text()

    def patch(self, directory):
        for file in (STATIC_POD / "kubeadm" / directory).iterdir():
            self.put(f"kubernetes/patches/{file.name}", file.read_text())

    def without(self, name):
        for file in (self.etc / "kubernetes/patches").glob(f"*{name}*"):
            file.unlink()

    def command(self, *arguments):
        mount = f"mount -t overlay etc -o lowerdir=/etc,upperdir={self.etc},workdir={self.directory}/work /etc\n"
        return ["unshare", "--mount", "bash", "-euc", mount + 'exec "$0" "$@"', str(TOOL), *arguments]

    def environment(self):
        return {**os.environ, "PATH": f"{self.directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    def run_tool(self, *arguments):
        return run(*self.command(*arguments), check=False, env=self.environment())

    def tool(self, *arguments):
        """Runs it; it must succeed. What it says."""
        result = self.run_tool(*arguments)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout + result.stderr

    def install(self, *arguments):
        return self.tool("--program", str(self.directory / "program"), "--timeout", "20", *arguments)

    def refused(self, *arguments):
        """Runs it; it must refuse and change nothing. What it says."""
        before = self.manifest()
        result = self.run_tool("--program", str(self.directory / "program"), *arguments)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertEqual(self.manifest(), before)
        return result.stderr

    def plain(self):
        """Begins with a manifest that has no sidecar, and returns it."""
        self.tool("--uninstall", "--force", "--timeout", "20")
        self.assertNotIn("barbican-kms", self.manifest())
        self.assertNotIn("encryption-provider", self.manifest())
        return self.manifest()

    # -- the manifest

    def test_out_and_in_again_gives_the_same(self):
        self.plain()
        self.install()
        self.assertEqual(self.manifest(), self.full)

    def test_a_second_kube_apiserver_in_the_directory_is_named_and_nothing_changed(self):
        one = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
               "spec": {"containers": [{"image": "x", "name": "kube-apiserver"}]}}
        line = "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: kube-apiserver, image: x}]}}"
        copies = {"kube-apiserver.yaml.bak": self.full, "old": self.full, "old.json": json.dumps(one),
                  "indented.json": json.dumps(one, indent=1), "line": line + "\n"}
        for name, text in copies.items():
            self.put(f"kubernetes/manifests/{name}", text)
            said = self.refused()
            self.assertIn(f"/etc/kubernetes/manifests/{name}: also a kube-apiserver", said)
            (self.etc / "kubernetes/manifests" / name).unlink()
        self.put("kubernetes/manifests/.kube-apiserver.yaml.bak", self.full)
        self.put("kubernetes/manifests/etcd.yaml", "kind: Pod\nspec:\n  containers:\n  - name: etcd\n")
        # It names one, and is none.
        other = line.replace("kube-apiserver, image: x", "etcd, image: x, env: [{name: kube-apiserver}]")
        self.put("kubernetes/manifests/proxy.yaml", other)
        self.plain()
        self.install()
        left = {file.name for file in (self.etc / "kubernetes/manifests").iterdir()}
        self.assertEqual(left, {"kube-apiserver.yaml", ".kube-apiserver.yaml.bak", "etcd.yaml", "proxy.yaml"})

    def test_an_option_goes_with_its_patch(self):
        for options in (["rootless"], ["startup-probe", "etc-pki"], ["rootless", "startup-probe", "etc-pki", "metrics"]):
            for option in options:
                self.patch(f"options/{option}")
            self.install()
            self.assertNotEqual(self.manifest(), self.full)
            self.assertIn("nothing to change", self.tool())
            for option in options:
                self.without(option.partition("-probe")[0])
            self.install()
            self.assertEqual(self.manifest(), self.full, options)

    def test_another_order_of_the_same_lines_is_no_change(self):
        # kubeadm has applied a patch of somebody else's after ours.
        volume = "  - emptyDir: {}\n    name: mine\n"
        self.put(MANIFEST, self.full.replace("  volumes:\n", "  volumes:\n" + volume))
        self.assertIn("nothing to change", self.tool())

    def test_the_server_is_asked_at_its_ipv6_address(self):
        self.put(MANIFEST, re.sub(r"--advertise-address=.*", "--advertise-address=fd00::10", self.full))
        self.tool()
        self.assertIn("--server https://[fd00::10]:6443 ", (self.state / "asked").read_text())

    def test_a_dry_run_leaves_no_trace(self):
        self.without("barbican-kms")
        self.patch("patches")
        self.patch("options/startup-probe")
        self.assertIn("+    startupProbe:", self.tool("--dry-run"))
        self.assertEqual(self.manifest(), self.full)
        self.assertFalse((self.etc / "kubernetes/barbican-kms-backup").exists())

    # -- ready, or back

    def test_it_does_not_call_it_done_while_kube_apiserver_is_not_ready(self):
        self.pretend(readyz="not ok")
        said = self.refused()
        self.assertIn("the manifest is correct, but kube-apiserver is not ready", said)
        self.assertIn("kubernetes/barbican-kms-backup", said)
        self.assertIn("nothing to change", self.tool("--force"))

    def test_it_changes_nothing_while_kube_apiserver_is_not_ready_but_by_force(self):
        self.plain()
        self.pretend(readyz="not ok")
        self.assertIn("kube-apiserver is not ready now", self.refused())
        (self.state / "readyz").write_text("ok")
        self.pretend(metrics=READY)
        self.install("--force")
        self.assertEqual(self.manifest(), self.full)

    def test_an_interrupted_run_puts_the_old_manifest_back(self):
        before = self.plain()
        self.pretend(metrics=NOT_STARTED_AGAIN)
        for number, hear in ((signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGHUP, False)):
            with self.subTest(signal=number, hear=hear):
                with self.running("--timeout", "60") as process:
                    until("the new manifest is there", lambda: "barbican-kms" in self.manifest())
                    if not hear: # the terminal is gone
                        process.stderr.close()
                    process.send_signal(number)
                    self.assertEqual(process.wait(30), 128 + number)
                    if hear:
                        self.assertIn("interrupted: restored the old manifest", process.stderr.read())
                self.assertEqual(self.manifest(), before)
        self.assertEqual(os.listdir((self.etc / MANIFEST).parent), ["kube-apiserver.yaml"])

    def test_one_run_at_a_time(self):
        self.plain()
        self.pretend(metrics=NOT_STARTED_AGAIN)
        with self.running("--timeout", "60") as process:
            until("the new manifest is there", lambda: "barbican-kms" in self.manifest())
            # Not "nothing to change", which is what it would find.
            second = run("nsenter", "--target", process.pid, "--mount", TOOL, check=False, env=self.environment())
            self.assertIn("another run is in progress", second.stderr)
            self.assertEqual(second.returncode, 1)
            process.terminate()
            process.wait(30)

    @contextlib.contextmanager
    def running(self, *arguments):
        process = subprocess.Popen(self.command("--program", str(self.directory / "program"), *arguments),
                                   stderr=subprocess.PIPE, text=True, env=self.environment(),
                                   preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in
                                                       (signal.SIGINT, signal.SIGHUP)]) # a shell's & and nohup ignore them
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    # -- the configuration

    def test_a_cloud_config_that_does_not_work_is_refused(self):
        self.plain()
        self.pretend(**{"cloud-config": "1"})
        self.assertIn("the cloud-config does not work", self.refused())

    def test_an_encryption_config_that_does_not_work_is_refused(self):
        self.plain()
        good = (STATIC_POD / "encryption-config.yaml").read_text()
        for old, new in (("unix:///run/barbican-kms/", "unix:///run/other/"), ("apiVersion: v2", "apiVersion: v1"),
                         ("- kms:", "- secretbox: # endpoint: unix:///run/barbican-kms/kms.sock")):
            self.put(ENCRYPTION, good.replace(old, new))
            self.assertIn("the encryption config does not work", self.refused(), new)
        self.install("--force")

    def test_reading_first_is_no_mistake(self):
        self.plain()
        self.put(ENCRYPTION, (STATIC_POD / "encryption-config-read.yaml").read_text())
        self.install()

    def test_it_refuses_a_config_that_opens_less_than_the_one_in_use(self):
        self.before = self.plain()
        kms = "kms: {apiVersion: v2, name: barbican, endpoint: 'unix:///var/lib/kms/kms.sock'}"
        for providers, lost in (
            ([kms, "identity: {}"], None),
            ([kms.replace("apiVersion: v2, ", ""), "identity: {}"], "secrets kms barbican v1"),
            ([kms.replace("name: barbican", "name: other"), "identity: {}"], "secrets kms other v2"),
            (["aescbc: {keys: [{name: key1, secret: c2VjcmV0}]}", kms], "secrets aescbc key1"),
        ):
            self.go_config("secrets", providers)
            if lost:
                self.assertIn(f"cannot decrypt everything that /etc/{GO_CONFIG} can: {lost}.", self.refused())
        self.go_config("secrets, configmaps", [kms, "identity: {}"])
        self.assertIn("can: configmaps identity {}, configmaps kms barbican v2.", self.refused())
        self.install("--force")
        self.put(MANIFEST, self.go_manifest())
        (self.etc / GO_CONFIG).unlink()
        self.assertIn("it is not known what it can decrypt", self.refused())
        self.go_config("secrets", [kms, "identity: {}"])
        self.install()
        self.assertEqual(self.manifest().count("--encryption-provider-config="), 1)

    def go_manifest(self):
        flag = f"    - --encryption-provider-config=/etc/{GO_CONFIG}\n"
        return self.before.replace("    - --etcd-cafile", flag + "    - --etcd-cafile")

    def go_config(self, resources, providers):
        text = f"resources: [{resources}]\n  providers:\n" + "".join(f"  - {p}\n" for p in providers)
        self.put(GO_CONFIG, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- " + text)
        self.put(MANIFEST, self.go_manifest())

    # -- what kube-apiserver has taken up, and what etcd holds

    def test_it_waits_for_the_file_that_is_there(self):
        digest = run("sha256sum", self.etc / ENCRYPTION).stdout.split()[0]
        changed = (self.etc / ENCRYPTION).stat().st_ctime
        for metrics, taken_up in (
            (READY + LOADED % digest, True), (READY + LOADED % digest[::-1], False), # Kubernetes that says the hash
            (READY, True), (NOT_STARTED_AGAIN, False), # and that does not: started later than the file
            (NOT_STARTED_AGAIN + RELOADED % ("success", changed + 9), True), # or reloaded later
            (NOT_STARTED_AGAIN + RELOADED % ("success", changed - 9), False),
            (NOT_STARTED_AGAIN + RELOADED % ("failure", changed + 9), False),
        ):
            self.pretend(metrics=metrics)
            result = self.run_tool("--wait-reload", "--timeout", "1")
            self.assertEqual(result.returncode, 0 if taken_up else 1, metrics + result.stderr)
            self.assertIn("has reloaded" if taken_up else "has not reloaded", result.stderr)

    def test_it_finds_what_any_provider_has_encrypted(self):
        sealed = {f"/registry/secrets/default/{name}": b"k8s:enc:" + rest for name, rest in (
            ("kms-v2", b"kms:v2:barbican:\x0a"), ("kms-v1", b"kms:v1:barbican:"), ("cbc", b"aescbc:v1:key1:"),
            ("low", b"\x00"), ("middle", b"\x80"), ("high", b"\xff"))}
        sealed["/registry/zzz"] = b"k8s:enc:secretbox:v1:"
        clear = {f"/registry/configmaps/default/{i}": b"k8s\0 k8s:enc:kms:v2:" for i in range(450)}
        clear |= {"/registry/secrets/default/a": b"k8s:enc", "/registry0": b"k8s:enc:kms:v2:"}
        put = self.etcd()
        for key, value in (sealed | clear).items():
            put(key, value)
        self.assertEqual(self.run_tool("--encrypted").stdout.splitlines(), sorted(sealed))
        digest = run("sha256sum", self.etc / ENCRYPTION).stdout.split()[0]
        self.assertIn("make identity the first provider", self.refused("--uninstall"))
        self.put(ENCRYPTION, (STATIC_POD / "encryption-config-read.yaml").read_text())
        self.pretend(metrics=READY + LOADED % digest)
        self.assertIn("has not reloaded", self.refused("--uninstall"))
        self.pretend(metrics=READY)
        self.assertIn("etcd holds 7 encrypted objects, such as /registry/secrets/default/cbc", self.refused("--uninstall"))
        for key in sealed:
            put(key, b"k8s\0")
        self.assertEqual(self.run_tool("--encrypted").stdout, "")
        self.tool("--uninstall", "--timeout", "20")
        self.assertNotIn("barbican-kms", self.manifest())

    def test_it_does_not_uninstall_when_it_cannot_look(self):
        self.put(ENCRYPTION, (STATIC_POD / "encryption-config-read.yaml").read_text())
        self.put(MANIFEST, re.sub(r"--etcd-servers=.*", "--etcd-servers=http://127.0.0.1:1", self.full))
        self.assertIn("cannot read etcd", self.refused("--uninstall"))
        self.assertIn("cannot read etcd", self.refused("--encrypted"))

    def etcd(self):
        """A real one for the manifest; returns what puts a value there."""
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as server:
                ports.append(server.getsockname()[1])
        client, peer = (f"http://127.0.0.1:{port}" for port in ports)
        process = subprocess.Popen(
            [programs()[0] / "etcd", "--data-dir", self.directory / "data", "--listen-client-urls", client, "--advertise-client-urls",
             client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        text = re.sub(r"--etcd-servers=.*", f"--etcd-servers={client}", self.full)
        self.put(MANIFEST, re.sub(r" *- --etcd-(cafile|certfile|keyfile)=.*\n", "", text))

        def put(key, value):
            body = json.dumps({name: base64.b64encode(data).decode() for name, data in (("key", key.encode()), ("value", value))})
            with urllib.request.urlopen(f"{client}/v3/kv/put", body.encode(), timeout=10) as answer:
                answer.read()

        def answers():
            with contextlib.suppress(OSError):
                put("/other", b"")
                return True

        until("etcd answers", answers, 30)
        return put


if __name__ == "__main__":
    unittest.main()
