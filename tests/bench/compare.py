"""Measure several builds of barbican-kms beside each other: one lever's figure.

Called by scripts/bench --beside. The same client, cores and rounds as run.py; only Decrypt.
"""
import os
import time

import report
from run import CALLERS, Bench


class Comparison(Bench):
    def run(self):
        programs = {"as it is": self.args.kms}
        for path in self.args.beside:
            programs[os.path.basename(path)] = path
        sidecars = {}
        for name, program in programs.items():
            self.args.kms = program
            sidecars[name] = self.sidecar(name.replace(" ", "-"), self.config)
        time.sleep(1)
        idle = {name: one.resident() for name, one in sidecars.items()}
        samples = {}
        for turn in range(3 * self.rounds):
            for callers in CALLERS:
                # Nobody always comes after the same neighbour.
                for name in sorted(sidecars, reverse=bool(turn % 2)):
                    self.burst(samples, "decrypt, %d" % callers, sidecars[name].name, "decrypt",
                               callers, label=name)
        found = {"calls": {case: of.summary() for case, of in samples.items()}, "process": {}}
        for name, one in sidecars.items():
            used = {callers: self.cpu_us_per_call(one, callers) for callers in (1, 16)}
            found["process"][name] = {
                "bytes": os.path.getsize(programs[name]), "idle": idle[name],
                "after": one.resident(), "cpu_us_per_call": used}
        return found


def table(found):
    lines = ["| case | build | p50 | p99 | calls/s |", "|---|---|---|---|---|"]
    for case, of in found["calls"].items():
        for name, one in of.items():
            lines.append("| %s | %s | %s | %s | %.0f |" % (
                case, name, report.us(one["p50_us"]), report.us(one["p99_us"]), one["per_second"]))
    lines += ["", "| build | size | idle | after the calls | processor time, 1 and 16 callers |",
              "|---|---|---|---|---|"]
    for name, one in found["process"].items():
        lines.append("| %s | %.2f MiB | %s | %s | %.1f and %.1f us |" % (
            name, one["bytes"] / report.MIB, report.mib(one["idle"]), report.mib(one["after"]),
            one["cpu_us_per_call"][1], one["cpu_us_per_call"][16]))
    return "\n".join(lines) + "\n"
