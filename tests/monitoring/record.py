#!/usr/bin/env python3
"""A real run under a real Prometheus: records it, and draws README's picture of it.

    tests/monitoring/record.py

Keystone, Barbican, the sidecar and Prometheus are real. For some seven minutes the
sidecar has load, and lives through a rotation, an outage of OpenStack, a bad
cloud-config, the revocation of its credential with the wipe that follows, and a new
credential. What fires at each moment must be what FIRING says. Written are
 - tests/monitoring/recorded.test.yaml: every series that a rule looks at, for
   `promtool test rules`. A second of the run is a minute there;
 - static-pod/monitoring/run.svg: the dashboard's main panels.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from common import TOP, Cloud, Sidecar, die, free_port, get, packages, say, tool, until
from picture import draw

packages("grpc")
sys.path.insert(0, str(TOP / "proto"))
import grpc  # noqa: E402

RULES = TOP / "static-pod/monitoring/rules.yaml"
SCALE = 60

# What fires at the end of each part of the story. While it lasts, what fired at the end
# of the part before may still fire, and nothing else.
FIRING = {
    "load": [],
    "rotation, step 1": [],
    "rotation, step 2": [],
    "OpenStack is down": ["KeyUnconfirmed"],
    "and back": [],
    "a bad file": ["ReloadFailed"],
    "fixed": [],
    "credential revoked": ["KeyRefused", "KeyUnconfirmed", "KeyWipedSoon"],
    "keys wiped": ["CallsFail", "KeyMissing", "KeyRefused", "NotReady"],
    "new credential": [],
}


def selectors():
    """Every series that a rule looks at."""
    text = "\n".join(line for line in RULES.read_text().splitlines() if "description:" not in line)
    names = set(re.findall(r"\b(?:barbican_kms|process)_[a-z_]+", text)) | {"up"}
    only = {"barbican_kms_requests_total": '{method=~"Encrypt|Decrypt"}',
            "barbican_kms_request_duration_seconds_bucket": '{method="Decrypt"}'}
    return [name + only.get(name, "") for name in sorted(names)]


class Prometheus:
    def __init__(self, place, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = place / "prometheus.json"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "barbican-kms", "static_configs": [
                {"targets": [f"127.0.0.1:{target}"], "labels": {"instance": "node-1"}}]}]}))
        self.log = open(place / "prometheus.log", "w")
        self.process = subprocess.Popen(
            [tool("prometheus"), f"--config.file={config}",
             f"--storage.tsdb.path={place / 'tsdb'}",
             f"--web.listen-address={self.url[7:]}"], stderr=self.log, stdout=self.log)
        until("Prometheus is ready", self.ready)

    def ready(self):
        try:
            return get(self.url + "/-/ready")
        except OSError:
            return None

    def range(self, expression, start, end):
        query = urllib.parse.urlencode(
            {"query": expression, "start": start, "end": end, "step": 1})
        answer = json.loads(get(f"{self.url}/api/v1/query_range?{query}"))
        return answer["data"]["result"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Load:
    """Callers that wrap, and twice as many that unwrap what was wrapped last, as patient
    as kube-apiserver."""

    def __init__(self, sidecar):
        self.stopped = threading.Event()
        self.channel = grpc.insecure_channel(f"unix:{sidecar.place / 'kms.sock'}",
                                             [("grpc.default_authority", "localhost")])
        self.protos, services = grpc.protos_and_services("kms_v2.proto")
        self.kms = services.KeyManagementServiceStub(self.channel)
        self.outcomes = []
        self.wrapped = self.wrap()
        self.threads = [threading.Thread(target=self.again, args=(act,))
                        for act in 4 * [self.wrap, self.unwrap, self.unwrap]]
        for thread in self.threads:
            thread.start()

    def again(self, act):
        while not self.stopped.wait(random.uniform(0.2, 0.6)):
            act()

    def wrap(self):
        seed = self.protos.EncryptRequest(plaintext=os.urandom(32), uid="record")
        answer = self.call(self.kms.Encrypt, seed)
        self.wrapped = answer or self.wrapped
        return answer

    def unwrap(self):
        self.call(self.kms.Decrypt, self.protos.DecryptRequest(
            ciphertext=self.wrapped.ciphertext, key_id=self.wrapped.key_id,
            annotations=self.wrapped.annotations, uid="record"))

    def call(self, method, request):
        try:
            answer = method(request, timeout=3)
        except grpc.RpcError:
            answer = None
        self.outcomes.append(answer is not None)
        return answer

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()


def story(cloud, sidecar, config, credential):
    """What happens; yields the name of each event as it begins."""
    old, new = cloud.state["secret_ids"][:2]
    yield "load"
    time.sleep(20)
    yield "rotation, step 1"
    sidecar.write(config(credential) + f"decrypt-key-ids = {new}\n")
    time.sleep(12)
    yield "rotation, step 2"

    def rotated(credential):
        return config(credential).replace(old, new) + f"decrypt-key-ids = {old}\n"
    sidecar.write(rotated(credential))
    time.sleep(15)
    yield "OpenStack is down"
    for server in ("keystone", "barbican"):
        cloud.ctl("close", server)
    time.sleep(45)
    yield "and back"
    for server in ("keystone", "barbican"):
        cloud.ctl("open", server)
    until("recovery", lambda: not any(sidecar.values("key_problem")), 90)
    time.sleep(12)
    yield "a bad file"
    sidecar.write("[Global]\n")
    time.sleep(14)
    yield "fixed"
    sidecar.write(rotated(credential))
    time.sleep(10)
    yield "credential revoked"
    cloud.ctl("appcred-delete", credential["id"])
    until("a key is wiped", lambda: not all(sidecar.values("key_held")), 260)
    yield "keys wiped"
    until("all are", lambda: not any(sidecar.values("key_held")), 30)
    time.sleep(35)
    yield "new credential"
    sidecar.write(rotated(cloud.ctl("appcred-create", "--narrow")))
    until("it is ready again", lambda: all(sidecar.values("key_held")))
    time.sleep(25)


def record(place):
    cloud = Cloud(place / "openstack")
    sidecar = prometheus = load = None
    try:
        narrow = cloud.state["application_credentials"]["narrow"]
        text = Path(cloud.state["cloud_configs"]["application_credential_narrow"]).read_text()
        text += "revalidate-interval = 10s\nmax-cache-age = 200s\n"

        def config(credential):
            found = text.replace(narrow["id"], credential["id"])
            return found.replace(narrow["secret"], credential["secret"])
        credential = cloud.ctl("appcred-create", "--narrow")
        sidecar = Sidecar(place, config(credential))
        prometheus = Prometheus(place, sidecar.port)
        until("it is ready", lambda: sidecar.value("ready") == 1)
        load = Load(sidecar)
        time.sleep(3)
        start = time.time()
        events = []
        for event in story(cloud, sidecar, config, credential):
            events.append((time.time() - start, event))
            say(f"{events[-1][0]:6.1f} s  {event}")
        end = time.time()
        load.stop()
        say(f"{sum(load.outcomes)} calls were answered, {load.outcomes.count(False)} failed")

        def of(expression):
            found = prometheus.range(expression, start, end)
            return [(one["metric"], [(at - start, float(value)) for at, value in one["values"]
                                     if value != "NaN"]) for one in found]
        draw(TOP / "static-pod/monitoring/run.svg", end - start, events, of)
        return events, round(end - start), replay(prometheus, start, end)
    finally:
        if load:
            load.stop()
        if prometheus:
            prometheus.stop()
        if sidecar:
            sidecar.stop()
        cloud.down()


def replay(prometheus, start, end):
    """The series as input for promtool, a minute for each second."""
    series = []
    for selector in selectors():
        name = selector.partition("{")[0]
        all_found = prometheus.range(selector, start, end)
        if not all_found:
            die(f"there is no {name}")
        for found in all_found:
            labels = {key: value for key, value in found["metric"].items() if key != "__name__"}
            text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            known = {round(at - start): value for at, value in found["values"]}
            values = []
            for second in range(round(end - start)):
                value = known.get(second)
                if value is not None and name.endswith(("_age_seconds", "_interval_seconds")):
                    value = str(round(float(value) * SCALE))
                elif value is not None and name.endswith("_expiry_timestamp_seconds"):
                    value = str(round((float(value) - start) * SCALE))
                values.append("_" if value is None else value)
            series.append((f"{name}{{{text}}}", shortened(values)))
    return series


def shortened(values):
    """promtool's notation: 1x3 stands for 1 1 1 1, but _x3 for _ _ _."""
    text = []
    for value in values:
        if text and text[-1][0] == value:
            text[-1][1] += 1
        else:
            text.append([value, 1])
    return " ".join(f"{value}x{times - (value != '_')}" if times > 1 else value
                    for value, times in text)


def ask(series, length, place):
    """Asks promtool which alerts fire at each minute, by claiming that none does."""
    file = place / "ask.yaml"
    head = [f"rule_files: [{RULES}]", "evaluation_interval: 1m",
            "tests:", "- interval: 1m", "  input_series:"]
    for name, values in series:
        head.append(f"  - {{series: '{name}', values: '{values}'}}")
    head.append("  promql_expr_test:")
    for minute in range(length):
        head.append("  - {expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})', "
                    f"eval_time: {minute}m, exp_samples: [{{labels: '{{x=\"{minute}\"}}', value: 0}}]}}")
    file.write_text("\n".join(head) + "\n")
    done = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True)
    found = {}
    for block in (done.stdout + done.stderr).split("expr:")[1:]:
        minute = re.search(r'x="(\d+)"', block)
        got = block.split("got:")[1]
        found[int(minute[1])] = sorted(set(re.findall(r'alertname="BarbicanKms(\w+)"', got)))
    return found


def compare(events, length, fired):
    """What fired, against what should; returns the last minute of each part."""
    wrong, lasts, before = [], {}, []
    ends = [at for at, _ in events[1:]] + [length]
    for (begin, event), end in zip(events, ends):
        last = int(end) - 1
        for minute in range(int(begin), last + 1):
            if not set(fired[minute]) <= {*before, *FIRING[event]}:
                wrong.append(f"second {minute}, {event}: {fired[minute]}")
        if fired[last] != sorted(FIRING[event]):
            wrong.append(f"second {last}, at the end of {event}: {fired[last]}, "
                         f"not {sorted(FIRING[event])}")
        lasts[event], before = last, FIRING[event]
    if list(lasts) != list(FIRING):
        wrong.append("the story has other parts than FIRING")
    return wrong, lasts


def write_test(series, lasts):
    lines = ["# Recorded by record.py from a real run, a minute for each second; ages, intervals",
             "# and times of expiry are scaled too. What fires is what record.py says must.",
             "rule_files:", "- ../../static-pod/monitoring/rules.yaml",
             "evaluation_interval: 1m", "tests:",
             "- name: a rotation, an outage, a bad file, a revocation and a new credential",
             "  interval: 1m", "  input_series:"]
    lines += [f"  - {{series: '{name}', values: '{values}'}}" for name, values in series]
    lines.append("  promql_expr_test:")
    for event, last in lasts.items():
        # Two keys can be in the same problem; how many alerts is not the point.
        lines.append(f"  # {event}")
        lines.append("  - expr: 'group by (alertname) (ALERTS{alertstate=\"firing\"})'")
        lines.append(f"    eval_time: {last}m")
        samples = [f"    - {{labels: '{{alertname=\"BarbicanKms{alert}\"}}', value: 1}}"
                   for alert in FIRING[event]]
        lines += ["    exp_samples:", *samples] if samples else ["    exp_samples: []"]
    return "\n".join(lines) + "\n"


def main():
    if os.geteuid() == 0:
        # Before whatever else the machine does, or its load is what is recorded.
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        events, length, series = record(place)
        fired = ask(series, length, place)
        wrong, lasts = compare(events, length, fired)
        for minute, alerts in sorted(fired.items()):
            if alerts != fired.get(minute - 1):
                say(f"second {minute}: {' '.join(alerts) or 'no alert'}")
        test = TOP / "tests/monitoring/recorded.test.yaml"
        test.write_text(write_test(series, lasts))
        for text in wrong:
            say(text)
        if wrong:
            sys.exit("monitoring: other alerts than should have fired; nothing of this is to be kept")
        subprocess.run([tool("promtool"), "test", "rules", test], check=True)


main()
