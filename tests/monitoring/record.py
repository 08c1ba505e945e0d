#!/usr/bin/env python3
"""A real run under a real Prometheus: records it, and draws README's picture of it.

    tests/monitoring/record.py

Keystone, Barbican, the sidecar and Prometheus are real. For some three minutes
the sidecar has load, and lives through a rotation, an outage of OpenStack, a bad
cloud-config and the revocation of its credential. Written are
 - tests/monitoring/recorded.test.yaml: the series that alerts look at, and which
   alerts fire, for `promtool test rules`. A second of the run is a minute there;
 - static-pod/monitoring/run.svg: the dashboard's main panels.
"""

import json
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from common import TOP, Cloud, Sidecar, free_port, get, say, tool, until
from picture import draw

SERIES = ("barbican_kms_ready", "barbican_kms_key_held", "barbican_kms_key_write",
          "barbican_kms_key_trouble", "barbican_kms_key_confirmed_age_seconds",
          "barbican_kms_config_last_reload_successful", "barbican_kms_refused_decrypts_total",
          "barbican_kms_config_info", "barbican_kms_key_memory_locked")
SCALE = 60


class Prometheus:
    def __init__(self, place, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        config = place / "prometheus.json"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s"},
            "rule_files": [str(TOP / "static-pod/monitoring/rules.yaml")],
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
    """Wraps and unwraps, a few times a second."""

    def __init__(self, sidecar):
        self.stopped = threading.Event()
        self.failed = 0
        self.done = 0
        self.thread = threading.Thread(target=self.run, args=(sidecar,))
        self.thread.start()

    def run(self, sidecar):
        while not self.stopped.wait(0.02):
            good = sidecar.probe()
            self.done += good
            self.failed += not good

    def stop(self):
        self.stopped.set()
        self.thread.join()


def story(cloud, sidecar, config, credential):
    """What happens; yields the name of each event as it begins."""
    old, new = cloud.state["secret_ids"][:2]
    yield "load"
    time.sleep(20)
    yield "rotation, step 1"
    sidecar.write(config + f"decrypt-key-ids = {new}\n")
    time.sleep(12)
    yield "rotation, step 2"
    rotated = config.replace(old, new) + f"decrypt-key-ids = {old}\n"
    sidecar.write(rotated)
    time.sleep(15)
    yield "OpenStack is down"
    for server in ("keystone", "barbican"):
        cloud.ctl("close", server)
    time.sleep(25)
    yield "and back"
    for server in ("keystone", "barbican"):
        cloud.ctl("open", server)
    until("recovery", lambda: sidecar.value("consecutive_failures") == 0)
    time.sleep(12)
    yield "a bad file"
    sidecar.write("[Global]\n")
    time.sleep(12)
    yield "mended"
    sidecar.write(rotated)
    time.sleep(8)
    yield "credential revoked"
    cloud.ctl("appcred-delete", credential)
    until("the keys are wiped", lambda: sidecar.value("ready") == 0, 150)
    time.sleep(8)


def record(place):
    cloud = Cloud(place / "openstack")
    sidecar = prometheus = load = None
    try:
        made = cloud.ctl("appcred-create", "--narrow")
        narrow = cloud.state["application_credentials"]["narrow"]
        config = Path(cloud.state["cloud_configs"]["application_credential_narrow"]).read_text()
        config = config.replace(narrow["id"], made["id"]).replace(narrow["secret"], made["secret"])
        config += "revalidate-interval = 10s\nmax-cache-age = 75s\n"
        sidecar = Sidecar(place, config)
        prometheus = Prometheus(place, sidecar.port)
        until("it is ready", lambda: sidecar.value("ready") == 1)
        time.sleep(3)
        start = time.time()
        load = Load(sidecar)
        events = []
        for event in story(cloud, sidecar, config, made["id"]):
            events.append((time.time() - start, event))
            say(f"{events[-1][0]:6.1f} s  {event}")
        load.stop()
        say(f"{load.done} times wrapped and unwrapped, {load.failed} times refused")
        end = time.time()

        def of(expression):
            found = prometheus.range(expression, start, end)
            return [(one["metric"], [(at - start, float(value)) for at, value in one["values"]
                                     if value != "NaN"]) for one in found]
        draw(TOP / "static-pod/monitoring/run.svg", end - start, events, of)
        return replay(prometheus, start, end)
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
    first = None
    for name in SERIES:
        for found in prometheus.range(name, start, end):
            labels = {key: value for key, value in found["metric"].items() if key != "__name__"}
            text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            known = {round(at - start): value for at, value in found["values"]}
            values = []
            for second in range(round(end - start)):
                value = known.get(second)
                if value is not None and name.endswith("_age_seconds"):
                    value = str(round(float(value) * SCALE))
                values.append("_" if value is None else value)
            series.append((f"{name}{{{text}}}", shortened(values)))
            first = first or len(values)
    return series, first


def shortened(values):
    """promtool's notation: 1x3 stands for 1 1 1 1."""
    text = []
    for value in values:
        if text and text[-1][0] == value:
            text[-1][1] += 1
        else:
            text.append([value, 0])
    return " ".join(f"{value}x{more}" if more else value for value, more in text)


def expected(series, length, place):
    """Asks promtool which alerts fire when, by claiming that none does."""
    file = place / "ask.yaml"
    head = [f"rule_files: [{TOP}/static-pod/monitoring/rules.yaml]", "evaluation_interval: 1m",
            "tests:", "- interval: 1m", "  input_series:"]
    for name, values in series:
        head.append(f"  - {{series: '{name}', values: '{values}'}}")
    head.append("  promql_expr_test:")
    for minute in range(0, length, 5):
        head.append("  - {expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})', "
                    f"eval_time: {minute}m, exp_samples: [{{labels: '{{x=\"{minute}\"}}', value: 0}}]}}")
    file.write_text("\n".join(head) + "\n")
    done = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True)
    said = done.stdout + done.stderr
    found = {}
    for block in said.split("expr:")[1:]:
        minute = re.search(r'x="(\d+)"', block)
        got = block.split("got:")[1]
        found[int(minute[1])] = sorted(set(re.findall(r'alertname="(\w+)"', got)))
    return found


def write_test(series, length, fired):
    lines = ["# Recorded by record.py from a real run, a minute for each second; ages are",
             "# scaled too. What fires at each moment was compared with what was done then.",
             "rule_files:", "- ../../static-pod/monitoring/rules.yaml",
             "evaluation_interval: 1m", "tests:",
             "- name: a rotation, an outage, a bad file and a revocation", "  interval: 1m",
             "  input_series:"]
    lines += [f"  - {{series: '{name}', values: '{values}'}}" for name, values in series]
    lines.append("  promql_expr_test:")
    last = None
    for minute, alerts in sorted(fired.items()):
        if alerts == last:
            continue
        last = alerts
        lines.append("  - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'")
        lines.append(f"    eval_time: {minute}m")
        samples = [f"    - {{labels: '{{alertname=\"{alert}\"}}', value: VALUE_{alert}}}"
                   for alert in alerts]
        lines += ["    exp_samples: []"] if not alerts else ["    exp_samples:", *samples]
    return "\n".join(lines) + "\n"


def main():
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        series, length = record(place)
        fired = expected(series, length, place)
        text = write_test(series, length, fired)
        # Two keys can be in the same trouble; how many alerts is not the point.
        text = text.replace("count by (alertname) (", "group by (alertname) (")
        text = re.sub(r"VALUE_\w+", "1", text)
        (TOP / "tests/monitoring/recorded.test.yaml").write_text(text)
        for minute, alerts in sorted(fired.items()):
            say(f"second {minute}: {' '.join(alerts) or 'no alert'}")
        subprocess.run([tool("promtool"), "test", "rules",
                        TOP / "tests/monitoring/recorded.test.yaml"], check=True)


main()
