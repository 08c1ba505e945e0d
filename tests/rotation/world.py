"""The servers that rotate-key works on, and what a test does to them."""

import atexit
import contextlib
import datetime
import functools
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
TOOL = REPO / "scripts/rotate-key"
sys.path.insert(0, str(REPO / "tests/openstack"))
from rest import Api, order_key  # noqa: E402

DAY = 86400
NODES = ("cp-1", "cp-2", "cp-3")

KUBECTL = """#!/bin/sh
# exec needs a kubelet: what a sidecar would say there.
case "$1" in
exec) shift
    while [ "$1" != -n ]; do shift; done
    exec {status} ;;
esac
exec {kubectl} --kubeconfig {kubeconfig} "$@"
"""

# What the real command has printed at the start; it takes seconds each time.
OPENSTACK = """#!/bin/sh
case "$1" in token|configuration|catalog) exec cat {directory}/openstack-"$1".json ;; esac
exec {openstack} "$@"
"""


def stamp(ago=0):
    when = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=ago)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def tool():
    """scripts/rotate-key as a module."""
    loader = importlib.machinery.SourceFileLoader("rotate_key", str(TOOL))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("rotate_key", loader))
    loader.exec_module(module)
    return module


def until(what, true, seconds=120):
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return value


class World:
    """Keystone, Barbican, etcd, kube-apiserver and its sidecar, once for all tests."""

    def __init__(self):
        self.ends = contextlib.ExitStack()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="rotate-key-test."))
        self.ends.callback(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            self.start_openstack()
            self.start_kubernetes()
        except BaseException:
            self.ends.close()
            raise

    def start_openstack(self):
        place = self.directory / "openstack"
        self.ends.callback(self.run, REPO / "scripts/openstack", "down", place)
        self.state = json.loads(self.run(REPO / "scripts/openstack", "up", place))
        state = self.state
        self.repo_openstack = REPO / "scripts/openstack"
        self.openstack = {
            "OS_AUTH_URL": state["auth_url"], "OS_IDENTITY_API_VERSION": "3", "OS_USERNAME": state["user"]["username"],
            "OS_PASSWORD": state["user"]["password"], "OS_USER_DOMAIN_NAME": state["domain"]["name"],
            "OS_PROJECT_ID": state["project"]["id"], "OS_REGION_NAME": state["region"]}
        self.client = place / "venv/bin/openstack"
        self.tools = self.directory / "tools"
        self.tools.mkdir()
        self.environment = {"HOME": str(self.directory), **self.openstack}
        for words in (["token", "issue"], ["configuration", "show"], ["catalog", "show", "key-manager"]):
            text = self.run(self.client, *words, "-f", "json", env={"PATH": os.environ["PATH"], **self.environment})
            (self.directory / f"openstack-{words[0]}.json").write_text(text)
        self.token = json.loads((self.directory / "openstack-token.json").read_text())["id"]
        self.program("openstack", OPENSTACK.format(directory=self.directory, openstack=self.client))
        self.environment["PATH"] = f"{self.tools}:{os.environ['PATH']}"

    def start_kubernetes(self):
        """kube-apiserver's own sidecar follows a container, too."""
        self.socket = self.directory / "kms.sock"
        first = self.key()
        self.container = self.container_of((first, stamp(365 * DAY)))
        plain = pathlib.Path(self.state["cloud_configs"]["application_credential"]).read_text()
        ring = f"key-container = {self.container}\nrevalidate-interval = 10s"
        config = self.directory / "cloud.conf"
        config.write_text(re.sub(r"(?m)^key-id *=.*$", ring, plain))
        sidecar = subprocess.Popen([os.environ["BARBICAN_KMS_BIN"], "serve", f"--socketpath={self.socket}", "--cloud-config", config],
                                   stderr=(self.directory / "sidecar.log").open("w"))
        self.ends.callback(self.end, sidecar)
        place = self.place = self.directory / "kubernetes"
        self.ends.callback(self.run, os.environ["CLUSTER_PROGRAM"], "down", place)
        self.run(os.environ["CLUSTER_PROGRAM"], "up", place, "--socket", self.socket)
        self.kubeconfig = place / "apiserver.kubeconfig"
        self.real_kubectl = pathlib.Path(os.environ["KUBERNETES_SERVERS"]) / "kubectl"
        self.kubectl("create", "namespace", "kube-system", check=False)
        self.kubectl("create", "serviceaccount", "default", "-n", "kube-system")
        for node in NODES:
            self.kubectl("create", "-f", "-", input=json.dumps(self.pod(node)))

    @staticmethod
    def end(process):
        process.terminate()
        process.wait()

    @staticmethod
    def run(*command, check=True, **options):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *words, **options):
        return self.run(self.real_kubectl, "--kubeconfig", self.kubeconfig, *words, **options)

    def program(self, name, text):
        file = self.tools / name
        file.write_text(text)
        file.chmod(0o755)

    @staticmethod
    def pod(node):
        return {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": f"kube-apiserver-{node}", "namespace": "kube-system", "labels": {"component": "kube-apiserver"}},
                "spec": {"nodeName": node, "automountServiceAccountToken": False,
                         "initContainers": [{"name": "barbican-kms", "image": "x", "restartPolicy": "Always",
                                             "args": ["serve", "--socketpath=/run/barbican-kms/kms.sock"]}],
                         "containers": [{"name": "kube-apiserver", "image": "x"}]}}

    # Barbican

    @property
    def barbican(self):
        """A connection of its own each time: the server closes one that is idle."""
        return Api(self.state["barbican_url"], self.state)

    def key(self):
        return order_key(self.barbican, self.token, "kubernetes")["id"]

    def container_of(self, *references):
        made = self.call("POST", "/v1/containers", {"type": "generic", "name": "kubernetes"}).json()
        container = made["container_ref"].rpartition("/")[2]
        for key, name in references:
            self.add(container, key, name)
        return container

    def add(self, container, key, name):
        self.call("POST", f"/v1/containers/{container}/secrets", {"name": name, "secret_ref": self.secret_href(key)})

    def stored_under(self, secret):
        """The id of the key under which etcd has a Secret of the namespace default."""
        said = self.run(os.environ["CLUSTER_PROGRAM"], "stored", self.place, secret)
        return re.search(r"key id ([0-9a-f-]+)", said)[1]

    def secret_href(self, secret):
        return f"{self.state['barbican_url']}/v1/secrets/{secret}"

    def call(self, method, path, body=None):
        return self.barbican.call(method, path, self.token, body)


@functools.cache
def shared():
    """The servers of this run; they end with it."""
    world = World()
    atexit.register(world.ends.close)
    return world


class Plane:
    """One control plane of a test: a container of its own, and what its nodes say."""

    def __init__(self, world, *names):
        """`names`: for each key the names of its references."""
        self.world = world
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=world.directory))
        self.keys = [world.key() for _ in names]
        self.id = world.container_of(*((key, name) for key, names in zip(self.keys, names) for name in names))
        self.write("sidecar.json", {"barbican_url": world.state["barbican_url"], "token": world.token, "container_id": self.id})
        self.use_kubectl(f'{sys.executable} {HERE / "sidecar.py"} {self.directory} "${{3#kube-apiserver-}}"')

    def use_kubectl(self, status):
        """kubectl, whose exec runs this instead."""
        self.tools = self.directory / "tools"
        self.tools.mkdir()
        kubectl = self.tools / "kubectl"
        kubectl.write_text(KUBECTL.format(status=status, kubectl=self.world.real_kubectl, kubeconfig=self.world.kubeconfig))
        kubectl.chmod(0o755)

    def write(self, name, value):
        file = self.directory / name
        file.with_suffix(".new").write_text(json.dumps(value))
        file.with_suffix(".new").rename(file)

    def node(self, name, **differs):
        """How this node differs from a good one."""
        self.write(f"{name}.json", differs)

    def add(self, key, name):
        self.world.add(self.id, key, name)

    def references(self):
        """Key to the names of its references."""
        found = {}
        for reference in self.world.call("GET", f"/v1/containers/{self.id}").json()["secret_refs"]:
            found.setdefault(reference["secret_ref"].rpartition("/")[2], set()).add(reference["name"])
        return found

    def new_keys(self):
        return set(self.references()) - set(self.keys)

    def begin(self, *words, environment=None, more=()):
        """Starts rotate-key, with little patience."""
        words = ["--poll", "0.1", "--quiet", "0.2", "--timeout", "5m", "--controller-timeout", "0", *words, *more]
        path = f"{self.tools}:{self.world.environment['PATH']}"
        return subprocess.Popen([sys.executable, "-B", str(TOOL), *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**self.world.environment, "PATH": path, **(environment or {})})

    def rotate(self, *words, code=0, **more):
        """Runs it to its end; what it printed and said."""
        process = self.begin(*words, **more)
        out, err = process.communicate(timeout=300)
        if process.returncode != code:
            raise AssertionError(f"rotate-key {' '.join(words)}: exit {process.returncode}, not {code}\n{out}{err}")
        return Said(out, err)

    def kill_after(self, text, *words):
        """Starts it, and kills it when it has said this; returns whether it came to that."""
        process = self.begin(*words)
        for line in process.stderr:
            if re.search(text, line):
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return True
        process.communicate()
        return False


class RealPlane(Plane):
    """The control plane whose sidecar is real; its one sidecar answers for all three pods."""

    def __init__(self, world):
        self.world, self.id = world, world.container
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=world.directory))
        self.keys = list(self.references())
        self.use_kubectl(f"{os.environ['BARBICAN_KMS_BIN']} status --json --socketpath {world.socket}")


class Said:
    def __init__(self, out, err):
        self.out, self.err = out, err

    @property
    def json(self):
        return json.loads(self.out)


def unused_id():
    return str(uuid.uuid4())
