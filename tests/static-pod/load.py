"""Requests to a kube-apiserver, one after the other and without end, and when it was ready.

    load.py KUBECONFIG OUT WORKERS

Each worker makes a Secret, reads it, reads one made before, and so on. Every request is a line of
JSON in OUT: when it began and ended (seconds, monotonic), what it was, and how it went: `ok`, the
kind of a broken connection, or the answer's code and message. One thread asks /readyz twenty times
a second. Ends at SIGTERM.
"""

import base64
import http.client
import itertools
import json
import re
import secrets
import signal
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse

ENDED = threading.Event()
RUN = secrets.token_hex(4)
SECRETS = "/api/v1/namespaces/default/secrets"


def credentials(kubeconfig):
    """The server's address, and a TLS context with the client's certificate."""
    text = open(kubeconfig).read()
    found = {key: re.search(rf"(?m)^ *{key}: *(\S+)", text)[1] for key in (
        "server", "certificate-authority-data", "client-certificate-data", "client-key-data")}
    decoded = {key: base64.b64decode(value) for key, value in found.items() if key != "server"}
    context = ssl.create_default_context(cadata=decoded["certificate-authority-data"].decode())
    with tempfile.NamedTemporaryFile() as file:
        file.write(decoded["client-certificate-data"] + b"\n" + decoded["client-key-data"])
        file.flush()
        context.load_cert_chain(file.name)
    return urllib.parse.urlsplit(found["server"]).netloc, context


class Client:
    """One connection, made anew after it breaks."""

    def __init__(self, netloc, context, out, lock):
        self.netloc, self.context, self.out, self.lock = netloc, context, out, lock
        self.connection = None

    def ask(self, what, method, path, body=None):
        """Writes down how it went; returns the answer's document, or None."""
        began, document = time.monotonic(), None
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(self.netloc, context=self.context, timeout=30)
            self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            content = answer.read()
            how = "ok" if answer.status < 300 else f"{answer.status} {content[:300].decode(errors='replace')}"
            document = content if answer.status < 300 else None
        except (OSError, http.client.HTTPException) as error:
            how = type(error).__name__
            self.connection.close()
            self.connection = None
        with self.lock:
            self.out.write(json.dumps({"began": began, "ended": time.monotonic(), "what": what, "how": how}) + "\n")
            self.out.flush()
        return document


def worker(client, number):
    made = []
    for count in itertools.count():
        if ENDED.wait(0.05):
            return
        # Never the same again: a broken connection does not tell whether it was made.
        name = f"load-{RUN}-{number}-{count}"
        value = base64.b64encode(name.encode()).decode()
        if client.ask("create", "POST", SECRETS, {"metadata": {"name": name}, "data": {"key": value}}):
            made.append(name)
        for read in made[-1:] + made[len(made) // 2:][:1]:
            document = client.ask("read", "GET", f"{SECRETS}/{read}")
            if document and base64.b64decode(json.loads(document)["data"]["key"]).decode() != read:
                with client.lock:
                    client.out.write(json.dumps({"began": 0, "ended": 0, "what": "read", "how": f"wrong value of {read}"}) + "\n")


def watch(client):
    while not ENDED.wait(0.05):
        client.ask("ready", "GET", "/readyz")


def main():
    kubeconfig, out, workers = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: ENDED.set())
    netloc, context = credentials(kubeconfig)
    with open(out, "w") as file:
        lock = threading.Lock()
        threads = [threading.Thread(target=worker, args=(Client(netloc, context, file, lock), n)) for n in range(int(workers))]
        threads.append(threading.Thread(target=watch, args=(Client(netloc, context, file, lock),)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


main()
