"""A control-plane node: real kubelet, containerd, etcd and kube-apiserver, set up by real kubeadm.

It lives in namespaces of its own (mounts, processes, network) on an overlay of this machine's
root: manifests, hooks and tools run unchanged, with their usual paths and ports, and all of it
ends with one process.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
# What an operator has: the release that is tested, unpacked, or this checkout.
FILES = pathlib.Path(os.environ.get("BARBICAN_KMS_FILES") or REPO)
STATIC_POD = FILES / "static-pod"
ADDRESS = "192.0.2.10"
VERSION = "v1.37.2"
IMAGE = "localhost/barbican-kms:0.1.0"


def programs():
    """Where run had the programs built."""
    return pathlib.Path(os.environ["KUBERNETES_SERVERS"]), pathlib.Path(os.environ["STATIC_POD_PROGRAMS"])


def run(*command, check=True, **options):
    """Runs a command; its output is in the exception when it fails."""
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def until(what, check, seconds=120, every=0.2):
    """Polls until the check gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)


def guide(section, number=1, language="sh", document="README.md"):
    """The n-th block of commands, or of something else, in a section of a document in static-pod."""
    text = (STATIC_POD / document).read_text()
    body = re.search(rf"(?ms)^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text)[1]
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", body)[number - 1]


def decode(*paths, text=None):
    """The documents of YAML files, as their consumers' types decode them, strictly."""
    _, own = programs()
    result = run(own / "manifests", "decode", *(paths or ["-"]), input=text)
    return json.loads(result.stdout)


def kubeadm_config(version, kubernetes=VERSION, directory="kubeadm"):
    """init.*.yaml of a directory of static-pod, with what an operator would add: address, name, version."""
    text = (STATIC_POD / f"{directory}/init.{version}.yaml").read_text()
    init = (
        f"localAPIEndpoint: {{advertiseAddress: {ADDRESS}}}\n"
        "nodeRegistration: {name: node-1, criSocket: unix:///run/containerd/containerd.sock}\n"
    )
    text, n = re.subn(r"(kind: InitConfiguration\n)", r"\1" + init, text)
    text, m = re.subn(r"(kind: ClusterConfiguration\n)", rf"\1kubernetesVersion: {kubernetes}\n", text)
    assert n == m == 1
    return text


def die_with_parent():
    """So that a test that is killed leaves no node behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Root:
    """A directory that kubeadm takes for the root of a machine, as on Debian, without running it."""

    def __init__(self, directory, kubeadm="kubeadm"):
        self.path = pathlib.Path(directory)
        for name in ("tmp", "etc/kubernetes/manifests", "etc/kubernetes/patches", "etc/ssl/certs", "usr/share/ca-certificates",
                     "usr/local/share/ca-certificates", "etc/ca-certificates"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        self.kubeadm = programs()[0] / kubeadm

    def patches(self, *directories):
        target = self.path / "etc/kubernetes/patches"
        for directory in directories:
            for file in (STATIC_POD / "kubeadm" / directory).iterdir():
                shutil.copy(file, target)

    def manifest(self, config, *arguments):
        """The kube-apiserver.yaml that kubeadm writes."""
        (self.path / "kubeadm.yaml").write_text(config)
        run(self.kubeadm, "--rootfs", self.path, "init", "phase", "control-plane", "apiserver",
            "--config", "/kubeadm.yaml", *arguments)
        return (self.path / "etc/kubernetes/manifests/kube-apiserver.yaml").read_text()


class Images:
    """Container images made by buildah in a store of their own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        conf, storage = self.directory / "containers.conf", self.directory / "storage.conf"
        conf.write_text('[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
                        '[containers]\ndefault_ulimits = ["nofile=20000:20000"]\n')
        storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.directory}/graph"\n'
                           f'runroot = "{self.directory}/run"\n')
        self.env = {**os.environ, "CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(storage)}

    def pack(self, name, binary, path):
        """An image with one static program; returns its archive."""
        context = self.directory / ("context-" + re.sub(r"\W", "-", name))
        context.mkdir(exist_ok=True)
        shutil.copy(binary, context / "program")
        (context / "Containerfile").write_text(f'FROM scratch\nCOPY program {path}\nENTRYPOINT ["{path}"]\n')
        run("buildah", "bud", "--quiet", "--timestamp", "0", "--tag", name, context, env=self.env)
        return self.archive(name)

    def close(self):
        """Takes the store's mounts off its directory, so that it can be removed."""
        lines = pathlib.Path("/proc/self/mounts").read_text().splitlines()
        for target in reversed([line.split()[1] for line in lines]):
            if target.startswith(str(self.directory) + "/"):
                run("umount", "--lazy", target, check=False)

    def archive(self, name):
        target = self.directory / (re.sub(r"\W", "-", name) + ".tar")
        target.unlink(missing_ok=True)
        run("buildah", "push", "--quiet", name, f"docker-archive:{target}:{name}", env=self.env)
        return target


class Node:
    """The machine. Everything that runs on it is started through exec and start."""

    def __init__(self, directory, images=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.images = list(images)
        self.children = []
        self.log = self.directory / "log"
        self.log.mkdir(exist_ok=True)
        self.init = None

    # -- the machine

    def boot(self):
        servers, own = programs()
        command = ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child=SIGKILL",
                   "--propagation", "private", str(HERE / "node-init"), str(self.directory), ADDRESS]
        binds = [str(REPO), str(FILES), str(servers), str(own), str(self.log), *map(str, {i.parent for i in self.images})]
        with open(self.log / "init.log", "w") as err:
            self.holder = subprocess.Popen(command + binds, stdout=subprocess.PIPE, stderr=err, text=True,
                                           preexec_fn=die_with_parent)
        said, _, _ = select.select([self.holder.stdout], [], [], 60)
        if not said or self.holder.stdout.readline() != "up\n":
            self.holder.kill()
            raise AssertionError("the node does not boot: " + (self.log / "init.log").read_text())
        children = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        self.init = int(children[0])
        for name in ("kubeadm", "kubectl", "etcd"):
            shutil.copy(servers / name, self.path(f"/usr/bin/{name}"))
        for name in ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr"):
            shutil.copy(own / name, self.path(f"/usr/bin/{name}"))
        self.write("/etc/containerd/config.toml", CONTAINERD)
        self.write("/var/lib/kubelet/config.yaml", KUBELET)
        for directory in ("/etc/kubernetes/manifests", "/etc/kubernetes/patches", "/root"):
            self.path(directory).mkdir(parents=True, exist_ok=True)
        self.start("containerd", "containerd")
        until("containerd answers", lambda: self.ok("ctr", "version"))
        for archive in self.images:
            self.exec("ctr", "-n", "k8s.io", "images", "import", archive)

    def kill(self):
        """Pulls the plug."""
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            self.holder.wait()
            for child in self.children:
                child.wait()
            self.init = None
        # Containers' cgroups are the host's; the processes in them are gone.
        for controller in pathlib.Path("/sys/fs/cgroup").glob("*/k8s.io"):
            for group in sorted(controller.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            with contextlib.suppress(OSError):
                controller.rmdir()

    def path(self, path):
        """A path of the node as seen from outside."""
        return pathlib.Path(f"/proc/{self.init}/root") / str(path).lstrip("/")

    def write(self, path, text, mode=0o600):
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name("." + target.name + ".new")
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.rename(target)

    def read(self, path):
        return self.path(path).read_text()

    def enter(self, *command):
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", "--net", "--uts", "--root", "--wd",
                "--", *map(str, command)]

    def exec(self, *command, check=True, **options):
        env = {**os.environ, "KUBECONFIG": "/etc/kubernetes/admin.conf",
               "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return run(*self.enter(*command), check=check, env=env, **options)

    def ok(self, *command):
        return self.exec(*command, check=False).returncode == 0

    def start(self, name, *command):
        log = open(self.log / f"{name}.log", "a")
        child = subprocess.Popen(self.enter(*command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        self.children.append(child)
        return child

    # -- Kubernetes

    def kubelet(self):
        """Starts the kubelet."""
        return self.start("kubelet", "kubelet", "--config", "/var/lib/kubelet/config.yaml", "--v=2",
                          "--kubeconfig", "/etc/kubernetes/kubelet.conf", "--hostname-override", "node-1")

    def kubeadm(self, config, *arguments):
        """What `kubeadm init` does up to the static pods. Controller manager and scheduler only pretend."""
        self.write("/root/kubeadm.yaml", config)
        for phase in ("certs all", "kubeconfig all", "etcd local", "control-plane all"):
            extra = arguments if phase.startswith("control-plane") else ()
            self.exec("kubeadm", "init", "phase", *phase.split(), "--config", "/root/kubeadm.yaml", *extra)

    def allow_exec(self):
        """Lets kube-apiserver ask the kubelet for exec: kubeadm's rights for it come with this phase."""
        self.exec("kubeadm", "init", "phase", "bootstrap-token", "--config", "/root/kubeadm.yaml")

    def ready(self, seconds=180):
        """Waits until kube-apiserver is ready, and makes kubeadm's administrator one."""
        until(lambda: "kube-apiserver is ready\n" + self.report(), lambda: self.ok("kubectl", "--kubeconfig",
              "/etc/kubernetes/super-admin.conf", "get", "--raw", "/readyz"), seconds)
        if not self.ok("kubectl", "get", "namespaces"):
            self.exec("kubectl", "--kubeconfig", "/etc/kubernetes/super-admin.conf", "create", "clusterrolebinding",
                      "kubeadm:cluster-admins", "--clusterrole=cluster-admin", "--group=kubeadm:cluster-admins")

    def report(self):
        lines = [self.exec("ctr", "-n", "k8s.io", "containers", "ls", check=False).stdout]
        for log in sorted(self.path("/var/log/pods").glob("*/*/*.log")):
            lines.append(f"-- {log.parent.parent.name}/{log.parent.name}/{log.name}\n" + log.read_text()[-1500:])
        lines.append((self.log / "kubelet.log").read_text()[-3000:] if (self.log / "kubelet.log").exists() else "")
        return "\n".join(lines)

    def kubectl(self, *arguments, **options):
        return self.exec("kubectl", *arguments, **options).stdout

    def processes(self, name):
        """Process ids, as the node counts them, of a program."""
        found = []
        for entry in self.path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    if command[0].decode().rsplit("/", 1)[-1] == name:
                        found.append((int(entry.name), [c.decode() for c in command]))
        return found

    def etcd_value(self, key, pki="/etc/kubernetes/pki/etcd", server="https://127.0.0.1:2379"):
        """What an etcd has stored under a key."""
        tls = [arg for pair in (("--cacert", "ca.crt"), ("--cert", "server.crt"), ("--key", "server.key"))
               for arg in (pair[0], f"{pki}/{pair[1]}")]
        import base64
        request = json.dumps({"key": base64.b64encode(key.encode()).decode()})
        answer = json.loads(self.exec("curl", "-sSf", *tls, "-d", request, f"{server}/v3/kv/range").stdout)
        return base64.b64decode(answer["kvs"][0]["value"]) if answer.get("kvs") else None


CONTAINERD = """\
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true # a test machine may lack CAP_SYS_RESOURCE
[plugins."io.containerd.cri.v1.runtime".cni]
  use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""

# A kubelet with nothing to evict for, on a machine whose cgroups may be of the old kind.
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: /etc/kubernetes/manifests
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
address: 192.0.2.10 # where kube-apiserver asks it for exec
healthzPort: 0
fileCheckFrequency: 2s
syncFrequency: 5s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {mode: Webhook}
"""
