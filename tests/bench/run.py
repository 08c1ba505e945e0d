"""Measure all servers in one run; write results.json, table.md and latency.svg.

Called by scripts/bench. Servers take turns in short rounds, so that whatever else the
machine does hits all of them alike: trust medians, and ratios within one run.
"""
import argparse
import json
import os
import platform
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "openstack"))
import report  # noqa: E402
from rest import Api, application_credential_identity, login  # noqa: E402
from servers import CLIENT_CORE, Load, Server, Sidecar, private, round_trips, until  # noqa: E402

CALLERS = (1, 4, 16, 64)
METHODS = ("status", "encrypt", "decrypt")


def parse():
    parser = argparse.ArgumentParser()
    for name in ("kms", "load", "inside", "go", "openstack", "ctl", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--image-bytes", type=int)
    parser.add_argument("--beside", action="append", help="only compare this build with --kms")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    return parser.parse_args()


class Samples:
    """Latencies by name, over all rounds."""

    def __init__(self):
        self.latencies, self.calls, self.seconds = {}, {}, {}

    def add(self, name, answer):
        self.latencies.setdefault(name, []).extend(answer["ns"])
        self.calls[name] = self.calls.get(name, 0) + answer["calls"]
        self.seconds[name] = self.seconds.get(name, 0) + answer["seconds"]

    def summary(self):
        return {name: {**quantiles(ns), "per_second": self.calls[name] / self.seconds[name]}
                for name, ns in self.latencies.items()}


def quantiles(ns):
    ns = sorted(ns)
    at = lambda share: ns[min(len(ns) - 1, int(share * len(ns)))] / 1e3  # noqa: E731
    return {"p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "samples": len(ns)}


class Bench:
    def __init__(self, args, directory):
        self.args, self.directory = args, directory
        with open(os.path.join(args.openstack, "state.json")) as f:
            self.state = json.load(f)
        with open(self.state["cloud_configs"]["application_credential_narrow"]) as f:
            self.config = f.read()
        self.rounds = 2 if args.quick else 12
        self.load = Load(args.load, CLIENT_CORE)
        self.started = [self.load]
        self.result = {}

    def keep(self, server):
        self.started.append(server)
        self.load.ask("open", server.name, server.socket)
        return server

    def sidecar(self, name, config):
        return self.keep(Sidecar(name, self.directory, self.args.kms, config))

    def server(self, name, *arguments):
        return self.keep(Server(name, self.directory, list(arguments)))

    def settings(self):
        """What the Go servers are told."""
        credential = self.state["application_credentials"]["narrow"]
        path = os.path.join(self.directory, "go.json")
        with open(path, "w", opener=private) as f:
            json.dump({"key_id": self.state["secret_id"], "key": self.key_in_hex(),
                       "keystone": self.state["auth_url"], "barbican": self.state["barbican_url"],
                       "id": credential["id"], "secret": credential["secret"]}, f)
        return path

    def key_in_hex(self):
        return self.ctl("secret-payload", self.state["secret_id"])["hex"]

    def ctl(self, *words):
        said = subprocess.run([self.args.ctl, "ctl", self.args.openstack, *words],
                              stdout=subprocess.PIPE, check=True)
        return json.loads(said.stdout)

    def run(self):
        args = self.args
        self.echo = self.server("echo", args.load, "echo", "SOCKET")
        self.constant = self.server("constant", args.load, "constant", "SOCKET")
        self.kms = self.sidecar("barbican-kms", self.config)
        settings = self.settings()
        self.go_local = self.server("go-local", args.go, "local", "SOCKET", settings)
        self.go_barbican = self.server("go-barbican", args.go, "barbican", "SOCKET", settings)
        for step in (self.calls, self.cold, self.rings, self.disturbed, self.start,
                     self.process, self.inside):
            begun = time.monotonic()
            self.result[step.__name__] = step()
            print("bench: %s: %.0f s" % (step.__name__, time.monotonic() - begun),
                  file=sys.stderr)
        return self.result

    def calls(self):
        """Every method at every number of callers; the same 100 ms in turn for each."""
        samples = {}
        for _ in range(self.rounds):
            self.burst(samples, "ping, 1", "echo", "echo", 1)
            for method in METHODS:
                for callers in CALLERS:
                    for name in ("constant", "barbican-kms", "go-local"):
                        self.burst(samples, "%s, %d" % (method, callers), name, method, callers)
            for callers in (1, 16):
                self.burst(samples, "decrypt, %d" % callers, "go-barbican", "decrypt", callers,
                           500)
        return {case: of.summary() for case, of in samples.items()}

    def burst(self, samples, case, name, method, callers, ms=100, label=None):
        answer = self.load.ask("run", name, method, callers, "ms", ms)
        samples.setdefault(case, Samples()).add(label or name, answer)

    def cold(self):
        """kube-apiserver after a restart: 10,000 distinct seeds, each unwrapped once."""
        samples = {}
        for _ in range(1 if self.args.quick else 3):
            for name in ("barbican-kms", "go-local"):
                answer = self.load.ask("cold", name, 16, 10_000)
                samples.setdefault("cold, 16", Samples()).add(name, answer)
        return {case: of.summary() for case, of in samples.items()}

    def more_keys(self, count):
        barbican = Api(self.state["barbican_url"], self.state)
        token, _ = login(Api(self.state["auth_url"], self.state), application_credential_identity(
            self.state["application_credentials"]["full"]))
        import base64
        return [barbican.call("POST", "/v1/secrets", token, {
            "name": "bench", "secret_type": "symmetric", "algorithm": "aes", "bit_length": 256,
            "payload": base64.b64encode(secrets.token_bytes(32)).decode(),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64"}).json()["secret_ref"].rpartition("/")[2]
            for _ in range(count)]

    def ring(self, ids, interval="5m"):
        config = self.config + "\nrevalidate-interval = %s\n" % interval
        return config + ("decrypt-key-ids = %s\n" % ",".join(ids) if ids else "")

    def by_container(self, ids):
        """A configuration whose container lists the key and these."""
        references = ["2026-01-01T00:00:00Z=" + self.state["secret_id"]]
        references += ["staged %d=%s" % (number, id) for number, id in enumerate(ids)]
        container = self.ctl("container-create", *("--reference=" + one for one in references))["id"]
        with open(self.state["cloud_configs"]["application_credential"]) as f:
            return re.sub("(?m)^key-id = .*", 'key-container = "%s"' % container, f.read())

    def rings(self):
        """The same ciphertext with 1, 10 and 100 keys in the ring, and 100 of a container."""
        self.ids = self.more_keys(99)
        samples = {}
        configs = {"%d keys" % count: self.ring(self.ids[:count - 1]) for count in (1, 10, 100)}
        configs["100 keys, container"] = self.by_container(self.ids)
        servers = {}
        for label, config in configs.items():
            servers[label] = self.sidecar("ring-" + re.sub(r"\W+", "-", label), config)
            self.load.ask("seal", "barbican-kms", servers[label].name)
        until(lambda: self.holds(servers["100 keys, container"]) == 100, "it holds 100 keys",
              servers["100 keys, container"].log)
        for turn in range(3 * self.rounds):
            for label in reversed(servers) if turn % 2 else servers:
                self.burst(samples, "decrypt, 1", servers[label].name, "decrypt", 1, 50, label)
        self.result["ring_memory"] = {label: server.resident() for label, server in servers.items()}
        return {case: of.summary() for case, of in samples.items()}

    def holds(self, server):
        """How many keys are in its memory."""
        said = subprocess.run([self.args.kms, "status", "--json", "--socketpath", server.socket],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return said.stdout.count(b'"held": true')

    def disturbed(self):
        """Decrypt while something else goes on, each beside a quiet round.

        Keystone and Barbican run on the same two cores here, and what they do for a reload
        takes time from the client and the server: `openstack busy` shows how much, by making
        the same requests from elsewhere.
        """
        # Some ten keys a second, as 10 s is the least that the configuration takes.
        busy = self.sidecar("confirming", self.ring(self.ids, "10s"))
        ms, samples = 300, {}
        for turn in range(self.rounds):
            for callers in (1, 16):
                case = "decrypt, %d" % callers
                self.burst(samples, case, "barbican-kms", "decrypt", callers, ms, "quiet")
                with Repeating(lambda: round_trips(self.state)):
                    self.burst(samples, case, "barbican-kms", "decrypt", callers, ms,
                               "openstack busy")
                with Repeating(self.reload):
                    self.burst(samples, case, "barbican-kms", "decrypt", callers, ms, "reload")
                self.burst(samples, case, "confirming", "decrypt", callers, ms, "revalidation")
        self.kms.write(self.config)
        self.ctl("freeze", "barbican")
        try:
            time.sleep(5)  # now a request of its hangs
            for turn in range(self.rounds):
                for callers in (1, 16):
                    case = "decrypt, %d, frozen" % callers
                    for name, label in (("barbican-kms", "quiet"), ("confirming", "frozen")):
                        self.burst(samples, case, name, "decrypt", callers, ms, label)
        finally:
            self.ctl("thaw", "barbican")
        found = {case: of.summary() for case, of in samples.items()}
        found["reloads applied"] = self.kms.logged('"configuration reloaded"')
        if not found["reloads applied"]:
            raise SystemExit("no configuration was applied: the calls beside reloads had none")
        busy.end()
        self.started.remove(busy)
        return found

    def reload(self):
        """Each adds a key to the ring or takes it out, so each loads and swaps."""
        self.second = not getattr(self, "second", False)
        self.kms.write(self.ring(self.ids[:1] if self.second else []))
        self.kms.signal(signal.SIGHUP)
        time.sleep(0.1)

    def start(self):
        """From exec to the first connection and to the first Status that is ok.

        Without priority, which would take time from the Keystone and Barbican it waits for.
        """
        load = Load(self.args.load, None)
        path = os.path.join(self.directory, "start.sock")
        config = os.path.join(self.directory, "start-config", "cloud.conf")
        os.mkdir(os.path.dirname(config))
        with open(config, "w", opener=private) as f:
            f.write(self.config)
        found = {"constant": [], "barbican-kms": [], "round trips": []}
        for _ in range(5 if self.args.quick else 31):
            found["constant"].append(load.ask("start", path, self.args.load, "constant", path))
            found["round trips"].append(round_trips(self.state))
            found["barbican-kms"].append(load.ask(
                "start", path, *Sidecar.arguments(self.args.kms, config, path)))
        load.end()
        median = lambda name, field: statistics.median(  # noqa: E731
            one[field] for one in found[name])
        least = lambda name, field: min(one[field] for one in found[name])  # noqa: E731
        # Keystone's time varies by more than what is looked for: the least to the least.
        trips = min(trip["keystone"] + trip["barbican"] for trip in found["round trips"])
        return {
            "samples": len(found["round trips"]),
            "listening_ms": {name: {"p50": median(name, "listening") / 1e6,
                                    "min": least(name, "listening") / 1e6}
                             for name in ("constant", "barbican-kms")},
            "ready_ms": median("barbican-kms", "ready") / 1e6,
            "round_trips_ms": {name: median("round trips", name)
                               for name in ("keystone", "barbican")},
            "ready_least_ms": least("barbican-kms", "ready") / 1e6,
            "round_trips_least_ms": trips,
        }

    def process(self):
        """Memory, and processor time for each call."""
        half = 50_000 if self.args.quick else 500_000
        fresh = self.sidecar("fresh", self.config)
        time.sleep(1)
        found = {"resident_kib": {"idle": fresh.resident()}, "cpu_us_per_call": {},
                 "calls": 2 * half}
        self.load.ask("run", "fresh", "decrypt", 1, "calls", 10)
        for label in ("half", "all"):
            self.load.ask("run", "fresh", "decrypt", 16, "calls", half)
            found["resident_kib"]["after %s the calls" % label] = fresh.resident()
        with Watching(fresh) as watching:
            self.load.ask("run", "fresh", "decrypt", 64, "calls", half // 10)
        found["resident_kib"]["at 64 callers"] = watching.most
        found["resident_kib"]["constant server"] = self.constant.resident()
        found["resident_kib"]["go-local"] = self.go_local.resident()
        for callers in (1, 16):
            for server in (self.constant, self.kms, self.go_local):
                used = self.cpu_us_per_call(server, callers)
                found["cpu_us_per_call"].setdefault(server.name, {})[callers] = used
        found["binary_bytes"] = os.path.getsize(self.args.kms)
        found["image_bytes"] = self.args.image_bytes
        return found

    def cpu_us_per_call(self, server, callers):
        before = server.cpu_ns()
        self.load.ask("run", server.name, "decrypt", callers, "calls", 20_000)
        return (server.cpu_ns() - before) / 20_000 / 1e3

    def inside(self):
        said = subprocess.run([self.args.inside, "allocations"], stdout=subprocess.PIPE, check=True)
        return [json.loads(line) for line in said.stdout.splitlines()]

    def end(self):
        for one in reversed(self.started):
            one.end()


class Repeating:
    """Does something again and again beside a burst."""

    def __init__(self, act):
        self.act, self.over = act, threading.Event()
        self.thread = threading.Thread(target=self.repeat)

    def repeat(self):
        while not self.over.is_set():
            self.act()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Watching(Repeating):
    """The most memory that a server has while a burst goes on."""

    def __init__(self, server):
        super().__init__(self.look)
        self.server, self.most = server, server.resident()

    def look(self):
        self.most = max(self.most, self.server.resident(), key=lambda kib: kib["rss"])
        time.sleep(0.01)

    def __enter__(self):
        super().__enter__()
        return self


def machine():
    with open("/proc/cpuinfo") as f:
        models = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release().split("-")[0],
            "priority": "real-time" if os.geteuid() == 0 else "normal", "load": os.getloadavg()[0]}


def main():
    args = parse()
    os.makedirs(args.out, exist_ok=True)
    kind = Bench
    if args.beside:
        import compare
        kind = compare.Comparison
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        bench = kind(args, directory)
        try:
            result = {"machine": machine(), **bench.run()}
        finally:
            bench.end()
    if args.beside:
        print(compare.table(result))
        return
    with open(os.path.join(args.out, "results.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    table = report.table(result)
    with open(os.path.join(args.out, "table.md"), "w") as f:
        f.write(table)
    with open(os.path.join(args.out, "latency.svg"), "w") as f:
        f.write(report.plot(result))
    print(table)


if __name__ == "__main__":
    main()
