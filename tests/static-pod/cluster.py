"""What the tests on a node share: the images, and a node with an OpenStack on it."""

import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import tempfile
import unittest

from node import FILES, IMAGE, REPO, STATIC_POD, VERSION, Images, Node, guide, programs, run, until

CONFIG = "/etc/kubernetes/barbican-kms/cloud.conf"
ENCRYPTION = "/etc/kubernetes/encryption/encryption-config.yaml"
SOCKET = "/run/barbican-kms/kms.sock"
# For rotate-key, with less patience than an operator: the pause after KEP-3299 is 13 minutes. No
# controller manager runs on the node, which would do a StorageVersionMigration.
IMPATIENT = "--poll 1 --quiet 2 --rewrite"
PREFIX = b"k8s:enc:kms:v2:barbican:"


@functools.cache
def store():
    """Where images are made; gone at the end."""
    directory = tempfile.mkdtemp(prefix="barbican-kms-images-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Images(directory)
    atexit.register(made.close)
    return made


def sidecar(name, program=None):
    """The archive of the image that scripts/image makes, of a program or of a new build."""
    archive = store().directory / (re.sub(r"\W", "-", name) + ".tar")
    run(REPO / "scripts/image", "--tag", name, "--archive", archive, *(["--binary", program] if program else []), env=store().env)
    return archive


@functools.cache
def images():
    """Archives of all that a node runs; the sidecar's is the last."""
    servers, own = programs()
    listed = run(servers / "kubeadm", "config", "images", "list", "--kubernetes-version", VERSION).stdout.split()
    etcd = next(name for name in listed if "/etcd:" in name)
    archives = [
        store().pack("localhost/pause:1", own / "pause", "/pause"),
        store().pack(etcd, servers / "etcd", "/usr/local/bin/etcd"),
        store().pack(f"registry.k8s.io/kube-apiserver:{VERSION}", servers / "kube-apiserver", "/usr/local/bin/kube-apiserver"),
    ]
    # kubeadm upgrades these too; nothing here needs what they do.
    for idle in ("kube-controller-manager", "kube-scheduler"):
        archives.append(store().pack(f"registry.k8s.io/{idle}:{VERSION}", own / "pause", f"/usr/local/bin/{idle}"))
    if release := os.environ.get("BARBICAN_KMS_RELEASE"):
        # As published: built elsewhere, imported as it is.
        published, = pathlib.Path(release).glob("*-image.tar")
        return [*archives, pathlib.Path(shutil.copy(published, store().directory))]
    return [*archives, sidecar(IMAGE, os.environ.get("BARBICAN_KMS_BIN"))]


@unittest.skipUnless(os.geteuid() == 0, "a node needs root")
class OnNode(unittest.TestCase):
    """Boots one node for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="barbican-kms-node-")
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.node = Node(cls.directory, images())
        cls.addClassCleanup(cls.node.kill)
        cls.node.boot()
        cls.openstack("up", "--tls")
        cls.state = json.loads(cls.node.read("/srv/openstack/state.json"))
        cls.keys = [cls.state["secret_id"], *(k for k in cls.state["secret_ids"] if k != cls.state["secret_id"])]
        cls.node.write("/etc/kubernetes/barbican-kms/ca.crt", cls.node.read(cls.state["ca_file"]))
        cls.configure(cls.keys[0])

    @classmethod
    def openstack(cls, command, *arguments):
        return cls.node.exec(REPO / "scripts/openstack", command, "/srv/openstack", *arguments).stdout

    @classmethod
    def operator(cls, shell, who="user", check=True):
        """Runs commands with `openstack` logged in, and `kubectl`."""
        state = cls.state
        login = {"OS_AUTH_URL": state["auth_url"], "OS_CACERT": state["ca_file"], "OS_IDENTITY_API_VERSION": "3",
                 "OS_USERNAME": state[who]["username"], "OS_PASSWORD": state[who]["password"],
                 "OS_USER_DOMAIN_NAME": state["domain"]["name"], "OS_PROJECT_ID": state["project"]["id"],
                 "OS_REGION_NAME": state["region"]}
        return cls.node.exec("env", *(f"{k}={v}" for k, v in login.items()), "bash", "-euo", "pipefail", "-c",
                             f"PATH=/srv/openstack/venv/bin:$PATH\n{shell}", check=check)

    @classmethod
    def container(cls, key, *others):
        """The guide's container, for a key that there is; its id, and a credential that reads it and these keys."""
        section, reader = "Rotation by a container", cls.state["reader"]["id"]
        key, *others = (f"{cls.state['barbican_url']}/v1/secrets/{secret}" for secret in (key, *others))
        commands, n = re.subn(r"(?ms)^order=.*?(?=^container=)", f"key={key}\n", guide(section, 2))
        commands, m = re.subn(r'(?<= in "\$container" )"\$key"', " ".join([key, *others]), commands)
        assert n == m == 1
        said = cls.operator(commands.replace("READER-ID", reader)).stdout
        container = re.search(r'key-container = "(.*)"', said)[1]
        made = cls.operator(guide(section, 3).replace("CONTAINER-ID", container).strip() + " -f json", who="reader")
        return container, json.loads(made.stdout)

    @staticmethod
    def following(config, container, credential):
        """A cloud-config with a key-id, when it follows the container instead."""
        for name, lines in (("key-id", f"key-container = {container}\nrevalidate-interval = 10s"),
                            ("application-credential-id", f"application-credential-id = {credential['ID']}"),
                            ("application-credential-secret", f"application-credential-secret = {credential['Secret']}")):
            config, n = re.subn(rf"(?m)^{name} = .*", lines, config)
            assert n == 1, name
        return re.sub(r"(?m)^decrypt-key-ids = .*\n", "", config)

    @classmethod
    def configure(cls, key, *others):
        """Writes the cloud-config of an operator: narrow credential, names instead of addresses."""
        text = cls.node.read(cls.state["cloud_configs"]["application_credential_narrow"])
        text = re.sub(r"(?m)^ca-file = .*", "ca-file = /etc/kubernetes/barbican-kms/ca.crt", text)
        text = re.sub(r"(?m)^(auth-url = \"?https://)127\.0\.0\.1", r"\1localhost", text)
        text = re.sub(r"(?m)^key-id = .*", f"key-id = {key}", text)
        if others:
            text += f"decrypt-key-ids = {','.join(others)}\n"
        cls.node.write(CONFIG, text)

    @classmethod
    def patches(cls):
        for file in (STATIC_POD / "kubeadm/patches").iterdir():
            cls.node.write(f"/etc/kubernetes/patches/{file.name}", file.read_text())

    @classmethod
    def encryption(cls, name="encryption-config.yaml"):
        cls.node.write(ENCRYPTION, (STATIC_POD / name).read_text())

    def follow(self, section, number=1, **environment):
        """Runs a block of the guide, as its reader would, and returns what it says."""
        result = self.node.exec("env", *(f"{k}={v}" for k, v in environment.items()), "bash", "-euo", "pipefail", "-c",
                                f"cd {FILES}\n{guide(section, number)}")
        return result.stdout + result.stderr

    def secret(self, name, value="value"):
        self.node.kubectl("create", "secret", "generic", name, f"--from-literal=key={value}")
        return self.node.etcd_value(f"/registry/secrets/default/{name}")

    def get(self, name):
        return self.node.kubectl("get", "secret", name, "-o", "go-template={{.data.key | base64decode}}")

    def one(self, name):
        """Process id of the only process of this name."""
        found = [pid for pid, _ in self.node.processes(name)]
        self.assertEqual(len(found), 1, (name, found))
        return found[0]

    def in_sidecar(self, *command, check=True):
        """Runs a command in the sidecar's container, as an exec probe does."""
        lines = self.node.exec("ctr", "-n", "k8s.io", "tasks", "ls").stdout.splitlines()
        pid = str(self.one("barbican-kms"))
        task = next(line.split()[0] for line in lines if line.split()[1] == pid)
        return self.node.exec("ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id", os.urandom(8).hex(), task,
                              *command, check=check)

    def kms_healthy(self, seconds=120):
        until(lambda: "kms-providers is healthy\n" + self.node.report(),
              lambda: self.node.ok("kubectl", "get", "--raw", "/readyz/kms-providers"), seconds)
