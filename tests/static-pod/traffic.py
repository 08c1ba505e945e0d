"""Requests to a kube-apiserver of a node without a pause, by load.py, and how they went."""

import contextlib
import json

from node import REPO, until

ADMIN = "/etc/kubernetes/admin.conf"


class Traffic:
    """What one load.py asks; as a context it runs inside, and every request is read behind."""

    def __init__(self, node, kubeconfig=ADMIN, name="load", workers=4):
        self.node, self.name = node, name
        self.file = node.log / f"{name}.jsonl"
        self.pid = f"/root/{name}.pid"
        self.command = f"{REPO}/tests/static-pod/load.py", kubeconfig, self.file, workers

    def __enter__(self):
        self.file.write_text("")
        shell = f"echo $$ >{self.pid}; exec python3 " + " ".join(map(str, self.command))
        self.process = self.node.start(self.name, "sh", "-c", shell)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError): # it may have ended by itself, which the next line tells
            self.node.exec("kill", self.node.read(self.pid).strip())
        code = self.process.wait(60)
        if code:
            raise AssertionError(f"load.py: exit {code}\n" + (self.node.log / f"{self.name}.log").read_text()[-2000:])

    def results(self):
        """Of every request that has ended, in that order."""
        return [json.loads(line) for line in self.file.read_text().splitlines() if line.endswith("}")]

    def steady(self, secrets=30):
        """Waits until so many Secrets more are made."""
        since = len(self.results())
        until("requests go through", lambda: sum(r["how"] == "ok" and r["what"] == "create" for r in self.results()[since:]) > secrets)

    def asked(self):
        return sum(r["what"] != "ready" for r in self.results())

    def failed(self):
        return [r for r in self.results() if r["what"] != "ready" and r["how"] != "ok"]


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
