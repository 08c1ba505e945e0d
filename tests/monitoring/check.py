#!/usr/bin/env python3
"""Holds what is shipped for monitoring against a real sidecar.

 - promtool: the rules are valid, each fires when it should, and metrics follow the
   conventions (it is silent);
 - every metric that rules, dashboard and README name is one that the sidecar has, and
   README names every one that it has;
 - every alert has its entry in the runbook.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from common import OPENMETRICS, TOP, Cloud, Sidecar, say, tool, until

SHIPPED = TOP / "static-pod/monitoring"
NAME = re.compile(r"\b(?:barbican_kms|process)_[a-z_]+[a-z]")
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
            sidecar = Sidecar(place, config.read_text())
            try:
                until("it is ready", lambda: sidecar.value("ready") == 1)
                if not sidecar.probe():
                    problems.append("the probe failed")
                return sidecar.scrape(), sidecar.scrape(OPENMETRICS)
            finally:
                sidecar.stop()
        finally:
            cloud.down()


def families(text):
    """The names that may be used in an expression, by those after # TYPE."""
    known = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        known[name] = {name + end for end in ends}
    return known


def check_names(known):
    usable = set().union(*known.values())
    dashboard = json.loads((SHIPPED / "dashboard.json").read_text())
    expressions = json.dumps(dashboard)
    rules = (SHIPPED / "rules.yaml").read_text()
    for file, text in (("dashboard.json", expressions), ("rules.yaml", rules)):
        for name in sorted(set(NAME.findall(text)) - usable):
            if name not in ("barbican_kms",):
                problems.append(f"{file}: there is no metric {name}")
    readme = (TOP / "README.md").read_text()
    named = set(NAME.findall(readme))
    for name in sorted(set(known) - named):
        problems.append(f"README.md: the metrics table lacks {name}")
    for name in sorted(named - usable - set(known)):
        problems.append(f"README.md: there is no metric {name}")
    panels = {panel["id"] for panel in dashboard["panels"]}
    if len(panels) != len(dashboard["panels"]):
        problems.append("dashboard.json: an id stands twice")


def check_runbook():
    rules = (SHIPPED / "rules.yaml").read_text()
    runbook = (SHIPPED / "README.md").read_text()
    alerts = re.findall(r"- alert: (\S+)", rules)
    entries = re.findall(r"^## (BarbicanKms\S+)$", runbook, re.M)
    for alert in alerts:
        if alert not in entries:
            problems.append(f"README.md: no entry for {alert}")
        if f'README.md#{alert.lower()}"' not in rules:
            problems.append(f"rules.yaml: {alert} does not lead to its entry")
    for entry in set(entries) - set(alerts):
        problems.append(f"README.md: {entry} is no alert")
    return len(alerts)


def main():
    promtool("check", "rules", SHIPPED / "rules.yaml")
    tests = sorted(Path(__file__).parent.glob("*.test.yaml"))
    promtool("test", "rules", *tests)
    alerts = check_runbook()
    classic, openmetrics = scraped()
    promtool("check", "metrics", text=classic)
    if not openmetrics.endswith("# EOF\n"):
        problems.append("OpenMetrics without its end")
    known = families(classic)
    check_names(known)
    for problem in problems:
        say(problem)
    say(f"{alerts} alerts, {len(known)} metrics, {len(tests)} files of rule tests, "
        f"{len(problems)} problems")
    sys.exit(bool(problems))


main()
