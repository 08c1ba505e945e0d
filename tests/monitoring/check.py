#!/usr/bin/env python3
"""Holds what is shipped for monitoring against a real sidecar.

 - promtool: the rules are valid, each fires when it should, and metrics follow the
   conventions (it is silent);
 - both forms of the metrics are parsed by Prometheus' own Python client, and say the same;
 - every metric, label and label value that rules and dashboard name is one that the
   sidecar shows; REFERENCE.md names every metric;
 - every alert has its entry in the runbook, whose tables have the words that there are;
 - the patches that switch metrics on say what the base patch says, and more.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from common import OPENMETRICS, TOP, Cloud, Sidecar, binary, packages, say, tool, until

packages("monitoring")
import yaml  # noqa: E402
from prometheus_client import parser as classic_parser  # noqa: E402
from prometheus_client.openmetrics import parser as openmetrics_parser  # noqa: E402

SHIPPED = TOP / "static-pod/monitoring"
PATCHES = TOP / "static-pod/kubeadm"
NAME = re.compile(r"\b(?:barbican_kms|process)_[a-z_]+[a-z]")
# A metric with its matchers; one matcher; the labels of a clause.
SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*,?')
CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
# What Prometheus adds to all that it scrapes; a cluster's name is the operator's to add.
TARGET = {"instance", "job", "cluster"}
JOB = "barbican-kms"
problems = []


def promtool(*words, text=None):
    done = subprocess.run([tool("promtool"), *words], input=text, capture_output=True, text=True)
    if done.returncode or (text is not None and done.stdout + done.stderr):
        problems.append(f"promtool {' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")


def scraped():
    """Both formats, of a sidecar that has been through something."""
    with tempfile.TemporaryDirectory() as place:
        cloud = Cloud(Path(place) / "openstack")
        try:
            config = Path(cloud.state["cloud_configs"]["application_credential_narrow"])
            keys = cloud.state["secret_ids"]
            later = "2099-01-01T00:00:00Z"
            container = cloud.ctl(
                "container-create", "--reference", "2026-01-01T00:00:00Z=" + keys[0],
                "--reference", f"{later}={keys[1]}",
                "--reference", "staged 2026-06-01T00:00:00Z=" + cloud.ctl("order-create")["id"])["id"]
            # One that ends, and may ask when.
            made = cloud.ctl("appcred-create", "--expires-in", "5000000", "--access-rules", json.dumps([
                {"service": "key-manager", "method": "GET", "path": "/v1/containers/" + container},
                {"service": "key-manager", "method": "GET", "path": "/v1/secrets/*/payload"},
                {"service": "identity", "method": "GET",
                 "path": "/v3/users/*/application_credentials/*"}]))
            # With a limit and a container, so that every family has samples.
            text = re.sub(
                r"(?m)^(application-credential-(id|secret) *= *).*$",
                lambda found: found[1] + json.dumps(made[found[2]]), config.read_text())
            text = re.sub(r"(?m)^key-id *=.*$", "key-container = " + json.dumps(container), text)
            sidecar = Sidecar(place, text + "max-cache-age = 1h\n")
            try:
                until("it is ready", lambda: sidecar.value("ready") == 1)
                if not sidecar.probe():
                    problems.append("the probe failed")
                return sidecar.scrape(), sidecar.scrape(OPENMETRICS)
            finally:
                sidecar.stop()
        finally:
            cloud.down()


def parsed(text, parser):
    """The names that an expression may use, each with the values of its labels."""
    labels = {}
    for family in parser.text_string_to_metric_families(text):
        if not family.documentation:
            problems.append(f"{family.name} has no help")
        for sample in family.samples:
            known = labels.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                known.setdefault(label, set()).add(value)
    return labels


def read_metrics(classic, openmetrics):
    try:
        known = parsed(openmetrics, openmetrics_parser)
        older = parsed(classic, classic_parser)
    except ValueError as error:
        problems.append(f"the metrics cannot be parsed: {error}")
        return {}
    for name in sorted(set(known) ^ set(older)):
        problems.append(f"{name} is in one form of the metrics only")
    for name in sorted(set(known) & set(older)):
        # Where numbers are written in two ways (le) the words differ and not the values.
        if any(known[name][label] != older[name].get(label) for label in known[name]
               if label != "le"):
            problems.append(f"{name} has other labels in the other form")
    return known


def check_names(known, rules):
    dashboard = (SHIPPED / "dashboard.json").read_text()
    for file, text in (("dashboard.json", dashboard), ("rules.yaml", rules)):
        for name in sorted(set(NAME.findall(text)) - set(known) - {"barbican_kms"}):
            problems.append(f"{file}: there is no metric {name}")
    named = set(NAME.findall((SHIPPED / "REFERENCE.md").read_text()))
    short = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    for name in sorted(short - named):
        problems.append(f"REFERENCE.md: the metrics table lacks {name}")
    for name in sorted(named - short - set(known)):
        problems.append(f"REFERENCE.md: there is no metric {name}")
    panels = json.loads(dashboard)["panels"]
    if len({panel["id"] for panel in panels}) != len(panels):
        problems.append("dashboard.json: an id stands twice")
    return len(short)


def expressions(rules):
    """Every expression that is shipped, and where it stands."""
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            yield f"rules.yaml, {rule['alert']}", rule["expr"]

    def within(part):
        if isinstance(part, dict):
            for key, value in part.items():
                if key in ("expr", "query") and isinstance(value, str):
                    yield value
                yield from within(value)
        elif isinstance(part, list):
            for one in part:
                yield from within(one)
    for expression in within(json.loads((SHIPPED / "dashboard.json").read_text())):
        yield "dashboard.json", expression


def check_labels(known, rules):
    """Matchers name labels and values that there are; returns how many there were."""
    count = 0
    every = TARGET.union(*known.values())
    for where, expression in expressions(rules):
        for name, matchers in SELECTOR.findall(expression):
            if MATCHER.sub("", matchers).strip():
                problems.append(f"{where}: cannot read {{{matchers}}}")
            for label, operator, value in MATCHER.findall(matchers):
                count += 1
                if value.startswith("$") or label == "instance":
                    continue
                wanted = value.split("|") if "~" in operator else [value]
                there = {JOB} if label == "job" else known.get(name, {}).get(label, set())
                for word in wanted:
                    if word not in there:
                        problems.append(f'{where}: {name} has no {label}="{word}"')
        for labels in CLAUSE.findall(expression):
            for label in filter(None, (one.strip() for one in labels.split(","))):
                count += 1
                if label not in every:
                    problems.append(f"{where}: no metric has a label {label}")
    return count


def check_runbook(rules, known):
    runbook = (SHIPPED / "README.md").read_text()
    entries = dict(re.findall(r"^## (BarbicanKms\S+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S))
    alerts = [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    for rule in alerts:
        name = rule["alert"]
        if name not in entries:
            problems.append(f"README.md: no entry for {name}")
        link = f"/static-pod/monitoring/README.md#{name.lower()}"
        if not rule["annotations"].get("runbook_url", "").endswith(link):
            problems.append(f"rules.yaml: {name} does not lead to its entry")
    for entry in set(entries) - {rule["alert"] for rule in alerts}:
        problems.append(f"README.md: {entry} is no alert")

    def words(entry):
        return set(re.findall(r"^\| `([\w-]+)`", entries.get(entry, ""), re.M))
    for entry, metric in (("BarbicanKmsNotReady", "key_problem"),
                          ("BarbicanKmsContainerNotFollowed", "container_problem")):
        shown = known.get("barbican_kms_" + metric, {}).get("problem", set())
        if words(entry) != shown:
            odd = sorted(words(entry) ^ shown)
            problems.append(f"README.md: {entry} has not every problem: {odd}")
    refusals = next(rule["expr"] for rule in alerts if rule["alert"] == "BarbicanKmsDecryptRefused")
    refusals = set(re.search(r'reason=~"([^"]*)"', refusals)[1].split("|"))
    if words("BarbicanKmsDecryptRefused") != refusals:
        problems.append("README.md: BarbicanKmsDecryptRefused has not the alert's reasons")
    codes = (TOP / "src/metrics/collect.rs").read_text()
    codes = re.search(r"^const CODES.*?\];", codes, re.M | re.S)[0]
    for code in sorted(words("BarbicanKmsCallsFail") - set(re.findall(r'"([A-Z_]+)"', codes))):
        problems.append(f"README.md: BarbicanKmsCallsFail: there is no code {code}")
    return len(alerts)


def check_patches(binary):
    """A patch repeats all arguments: it must sort after the base and not fall behind it."""
    done = subprocess.run([binary, "serve", "--help"], capture_output=True, text=True, check=True)
    flags = set(re.findall(r"--[a-z][a-z-]*", done.stdout))

    def arguments(file):
        return yaml.safe_load(file.read_text())["spec"]["initContainers"][0]["args"]
    base, = (PATCHES / "patches").glob("*.yaml")
    before, known = base.name, arguments(base)
    # In the order in which kubeadm applies them: by name, as bytes.
    for file in sorted((PATCHES / "options/metrics").glob("*.yaml"), key=lambda file: file.name):
        found = arguments(file)
        if file.name < before or found[:len(known)] != known or len(found) == len(known):
            problems.append(f"{file.name} does not add to the arguments of {before}")
        for argument in found[1:]:
            if argument.partition("=")[0] not in flags:
                problems.append(f"{file.name}: serve has no {argument}")
        before, known = file.name, found
    address = next(one for one in known if one.startswith("--metrics-address=")).partition("=")[2]
    if f'targets: ["{address}"]' not in (SHIPPED / "README.md").read_text():
        problems.append(f"README.md: no scrape config for {address}")


def main():
    rules = (SHIPPED / "rules.yaml").read_text()
    promtool("check", "rules", SHIPPED / "rules.yaml")
    tests = sorted(Path(__file__).parent.glob("*.test.yaml"))
    promtool("test", "rules", *tests)
    classic, openmetrics = scraped()
    promtool("check", "metrics", text=classic)
    known = read_metrics(classic, openmetrics)
    metrics = check_names(known, rules)
    labels = check_labels(known, rules)
    alerts = check_runbook(rules, known)
    check_patches(binary())
    for problem in problems:
        say(problem)
    say(f"{alerts} alerts, {metrics} metrics, {labels} labels and values, "
        f"{len(tests)} files of rule tests, {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
