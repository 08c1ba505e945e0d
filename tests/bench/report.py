"""One table and one plot of a run, and how it stands against the targets."""
import math

SERVERS = {"echo": "raw socket", "constant": "constant answer (tonic)",
           "barbican-kms": "barbican-kms", "go-local": "Go, key kept",
           "go-barbican": "Go, asks Barbican"}
COLOURS = {"constant": "#888888", "barbican-kms": "#0072b2", "go-local": "#d55e00",
           "go-barbican": "#009e73"}
MIB = 1 << 20


def table(result):
    lines = ["| case | server | p50 | p90 | p99 | calls/s | samples |",
             "|---|---|---|---|---|---|---|"]
    for part in ("calls", "cold", "rings", "disturbed"):
        for case, of in result[part].items():
            if not isinstance(of, dict):
                continue
            for name, one in of.items():
                lines.append("| %s | %s | %s | %s | %s | %.0f | %d |" % (
                    case, SERVERS.get(name, name), us(one["p50_us"]), us(one["p90_us"]),
                    us(one["p99_us"]), one["per_second"], one["samples"]))
    lines += ["", "| process | |", "|---|---|"]
    lines += ["| %s | %s |" % row for row in process_rows(result)]
    lines += ["", "| target | reached | |", "|---|---|---|"]
    lines += ["| %s | %s | %s |" % (wanted, reached, "yes" if good else "**no**")
              for wanted, reached, good in targets(result)]
    return "\n".join(lines) + "\n"


def us(value):
    return "%.1f us" % value if value < 1000 else "%.1f ms" % (value / 1000)


def mib(kib):
    return "%.2f MiB, %.2f of it anonymous" % (kib["rss"] / 1024, kib["anonymous"] / 1024)


def process_rows(result):
    start, process = result["start"], result["process"]
    for name, ms in start["listening_ms"].items():
        yield "exec to listening, %s" % SERVERS[name], "%.1f ms (least %.1f)" % (
            ms["p50"], ms["min"])
    yield "exec to ready", "%.0f ms (least %.0f)" % (start["ready_ms"], start["ready_least_ms"])
    yield "the login and the GET that it cannot avoid", "%.0f + %.0f ms (least %.0f)" % (
        start["round_trips_ms"]["keystone"], start["round_trips_ms"]["barbican"],
        start["round_trips_least_ms"])
    for when, kib in process["resident_kib"].items():
        yield "resident memory, %s" % when, mib(kib)
    for name, by_callers in process["cpu_us_per_call"].items():
        for callers, used in by_callers.items():
            yield "processor time for 1,000 calls of Decrypt, %s callers, %s" % (
                callers, SERVERS[name]), "%.1f ms" % used
    yield "binary", "%.2f MiB" % (process["binary_bytes"] / MIB)
    if process["image_bytes"]:
        yield "image", "%.2f MiB" % (process["image_bytes"] / MIB)
    for one in result["inside"]:
        yield "allocations of one %s, %s" % (one["method"], SERVERS[one["server"]]), \
            "%d (%d bytes)" % (one["allocations"], one["bytes"])


def targets(result):
    calls, process, start = result["calls"], result["process"], result["start"]
    one = calls["decrypt, 1"]
    ours = one["barbican-kms"]

    def at_most(text, value, limit, form="%.2f"):
        return text, form % value, value <= limit
    yield at_most("Decrypt p50 at most 1.15 times the constant server's",
                  ours["p50_us"] / one["constant"]["p50_us"], 1.15)
    yield at_most("Decrypt p99 at most 2 times its p50, 1 caller",
                  ours["p99_us"] / ours["p50_us"], 2)
    for case, of in calls.items():
        if case.startswith("decrypt"):
            kms, go = of["barbican-kms"], of["go-local"]
            ratios = (go["p50_us"] / kms["p50_us"], go["p99_us"] / kms["p99_us"],
                      kms["per_second"] / go["per_second"])
            yield ("faster than Go with the key kept, %s callers: p50, p99, calls/s"
                   % case.split()[1], "%.2f, %.2f, %.2f times" % ratios, min(ratios) > 1)
    faster = one["go-barbican"]["p50_us"] / ours["p50_us"]
    yield ("100 times faster than asking Barbican on each call", "%.0f times" % faster,
           faster >= 100)
    for case, of in result["disturbed"].items():
        for name, figures in of.items() if isinstance(of, dict) else ():
            if name not in ("quiet", "openstack busy"):
                # A reload keeps OpenStack busy, on the same cores.
                beside = of["openstack busy"] if name == "reload" else of["quiet"]
                yield at_most("p99 of Decrypt changes by less than 20 %%: %s, %s" % (
                    case.split(",")[1].strip() + " callers", name),
                    figures["p99_us"] / beside["p99_us"], 1.2)
    rings = result["rings"]["decrypt, 1"]
    yield at_most("flat from 1 to 100 keys within 5 %, p50",
                  rings["100 keys"]["p50_us"] / rings["1 keys"]["p50_us"], 1.05)
    yield at_most("the same with the 100 keys in a container",
                  rings["100 keys, container"]["p50_us"] / rings["1 keys"]["p50_us"], 1.05)
    memory = {label: kib["rss"] / 1024 for label, kib in result["ring_memory"].items()}
    yield at_most("resident with 100 keys of a container beside 100 of the file, MiB more",
                  memory["100 keys, container"] - memory["100 keys"], 0.5)
    kib = process["resident_kib"]
    yield at_most("resident, idle: at most 5 MiB", kib["idle"]["rss"] / 1024, 5)
    yield at_most("resident after %d calls: at most 8 MiB" % process["calls"],
                  kib["after all the calls"]["rss"] / 1024, 8)
    yield at_most("growth in the second half, KiB: none",
                  kib["after all the calls"]["rss"] - kib["after half the calls"]["rss"], 16, "%d")
    yield at_most("exec to listening: at most 5 ms",
                  start["listening_ms"]["barbican-kms"]["p50"], 5, "%.1f ms")
    yield at_most("ready within 10 ms of what it cannot avoid, least to least",
                  start["ready_least_ms"] - start["round_trips_least_ms"], 10, "%.1f ms")
    yield at_most("binary: at most 5 MiB", process["binary_bytes"] / MIB, 5)


def plot(result):
    """p50 and p99 of Decrypt, and calls a second, by callers."""
    callers = (1, 4, 16, 64)
    calls = result["calls"]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="900" height="400" '
             'font-family="sans-serif" font-size="12">'
             # Presentation attributes give way to a style, so dark pages need no copy.
             '<style>.page{fill:#fff}text{fill:#222}@media (prefers-color-scheme: dark)'
             '{.page{fill:#16191d}text{fill:#ddd}path{stroke:#444}}</style>'
             '<rect width="900" height="400" class="page"/>']

    def panel(left, title, lines):
        x = {c: left + i * 110 for i, c in enumerate(callers)}
        ticks = nice_ticks(max(v for _, points, _ in lines for _, v in points))
        top = ticks[-1]
        parts.append('<text x="%d" y="24" font-size="14">%s</text>' % (left, title))
        for tick in ticks:
            y = 340 - 290 * tick / top
            parts.append('<path d="M%d %.0fh330" stroke="#ddd"/><text x="%d" y="%.0f" '
                         'text-anchor="end">%g</text>' % (left, y, left - 6, y + 4, tick))
        for c in callers:
            parts.append('<text x="%d" y="358" text-anchor="middle">%d</text>' % (x[c], c))
        parts.append('<text x="%d" y="376" text-anchor="middle">callers</text>'
                     % (left + 165))
        for name, values, dashed in lines:
            points = " ".join("%d,%.1f" % (x[c], 340 - 290 * v / top) for c, v in values)
            parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>' % (
                points, COLOURS[name], ' stroke-dasharray="5 4"' if dashed else ""))

    names = ("constant", "barbican-kms", "go-local")

    def values(name, field, scale=1.0):
        return [(c, calls["decrypt, %d" % c][name][field] * scale) for c in callers]
    latencies = [(name, values(name, field), field == "p99_us")
                 for name in names for field in ("p50_us", "p99_us")]
    rates = [(name, values(name, "per_second", 1e-3), False) for name in names]
    panel(60, "Decrypt: latency in µs, p50 and p99 (dashed)", latencies)
    panel(520, "Decrypt: thousand calls a second", rates)
    for i, name in enumerate(names):
        parts.append('<rect x="%d" y="386" width="12" height="4" fill="%s"/>'
                     '<text x="%d" y="392">%s</text>' % (60 + 200 * i, COLOURS[name],
                                                          78 + 200 * i, SERVERS[name]))
    return "\n".join(parts) + "\n</svg>\n"


def nice_ticks(most):
    """From 0 in four to eight equal steps of 1, 2 or 5 times a power of ten, to what is not
    below `most`."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = next(s * power for s in (1, 2, 5, 10) if s * power * 8 >= most)
    return [round(n * step, 9) for n in range(math.ceil(most / step) + 1)]
