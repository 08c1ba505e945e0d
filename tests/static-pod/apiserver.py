"""A kube-apiserver on loopback with an etcd, to ask what it takes; nothing is run by it."""

import json
import pathlib
import socket
import subprocess

from node import die_with_parent, programs, run, until


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class ApiServer:
    """As a context: it answers inside, and is ended behind."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.children = []

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def start(self):
        servers, _ = programs()
        self.directory.mkdir(parents=True)
        client, peer, secure = (free_port() for _ in range(3))
        key, tokens, self.config = (self.directory / name for name in ("sa.key", "tokens.csv", "kubeconfig"))
        run("openssl", "genrsa", "-out", key, "2048")
        tokens.write_text("token,admin,admin,system:masters\n")
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"https://127.0.0.1:{secure}", "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": "token"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}]}))
        etcd = f"http://127.0.0.1:{client}"
        self.run("etcd", servers / "etcd", f"--data-dir={self.directory / 'etcd'}", f"--listen-client-urls={etcd}",
                 f"--advertise-client-urls={etcd}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
                 f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", f"--initial-cluster=default=http://127.0.0.1:{peer}")
        self.run("kube-apiserver", servers / "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
                 f"--secure-port={secure}", f"--cert-dir={self.directory / 'certs'}", f"--token-auth-file={tokens}",
                 f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
                 "--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC",
                 "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
                 "--disable-admission-plugins=ServiceAccount")
        until(lambda: "kube-apiserver is ready\n" + (self.directory / "kube-apiserver.log").read_text()[-3000:],
              lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0)
        return self

    def run(self, name, *command):
        with open(self.directory / f"{name}.log", "w") as log:
            self.children.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log,
                                                  stdin=subprocess.DEVNULL, cwd=self.directory, preexec_fn=die_with_parent))

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.kill()
            child.wait()

    def kubectl(self, *arguments, **options):
        return run(programs()[0] / "kubectl", "--kubeconfig", self.config, *arguments, **options)

    def apply(self, thing, *arguments):
        return self.kubectl("apply", "-f", "-", *arguments, input=json.dumps(thing))

    def wait_for(self, definition):
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"customresourcedefinition/{definition}")
