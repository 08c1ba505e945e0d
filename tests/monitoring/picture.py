"""Draws panels as SVG that looks right on a light and on a dark page."""

from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 860, 70, 20
PANEL, GAP, TOP, LANES = 112, 34, 92, 4
COLOURS = ("a", "b", "c", "d", "e", "f")

STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
.page { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
.grid { stroke: #d1d9e0; } .event { stroke: #9a6700; stroke-dasharray: 2 3; }
.mark { fill: #9a6700; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.a { stroke: #0969da; } .b { stroke: #1a7f37; } .c { stroke: #cf222e; }
.d { stroke: #8250df; } .e { stroke: #bc4c00; } .f { stroke: #57606a; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } .text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
  .grid { stroke: #3d444d; } .event { stroke: #d29922; } .mark { fill: #d29922; }
  .a { stroke: #4493f8; } .b { stroke: #3fb950; } .c { stroke: #f85149; }
  .d { stroke: #ab7df8; } .e { stroke: #db6d28; } .f { stroke: #9198a1; }
}
"""


def panels(of):
    """Title, unit, lines: the dashboard's expressions with a fixed rate window."""
    def named(found, *keys):
        return [(" ".join(metric.get(key, "") for key in keys), points)
                for metric, points in found if points]

    def hashes(found):
        return [(metric["key_id_hash"][7:15], points) for metric, points in found]
    rate = "rate(barbican_kms_%s[5s])"
    quantile = ("clamp_max(1e6 * histogram_quantile(%s, sum by (le) (rate("
                'barbican_kms_request_duration_seconds_bucket{method="Decrypt"}[5s]))), 500)')
    return [
        ("Calls", "per second", named(of(
            "sum by (method, code) (" + rate % 'requests_total{method=~"Encrypt|Decrypt"}'
            + ") > 0"), "method", "code")),
        ("Decrypt", "µs, cut off at 500", [(label, points) for label, q in (("half", 0.5), ("99 %", 0.99))
                           for _, points in of(quantile % q)]),
        ("Write key", "1 = Encrypt uses it", hashes(of("barbican_kms_key_write"))),
        ("Since Barbican confirmed the key", "s",
         hashes(of("barbican_kms_key_confirmed_age_seconds"))),
        ("Requests to OpenStack", "each s", named(of(
            "sum by (outcome) (" + rate % "openstack_requests_total" + ") > 0"), "outcome")),
        ("Ready", "1 = a write key is held", [("", points) for _, points in
                                              of("barbican_kms_ready")]),
    ]


def draw(file, length, events, of):
    shown = panels(of)
    height = TOP + len(shown) * (PANEL + GAP) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" role="img">',
             "<title>A sidecar under load, through a rotation, an outage, a bad file and a "
             "revocation</title>",
             f"<style>{STYLE}</style>",
             f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>']
    inner = WIDTH - LEFT - RIGHT

    def across(at):
        return LEFT + inner * at / length
    ends = [-1000] * LANES
    for at, event in events:
        lane = next((n for n in range(LANES) if ends[n] < across(at)), LANES - 1)
        ends[lane] = across(at) + 7 * len(event) + 12
        x, anchor = across(at), "start"
        if ends[lane] > WIDTH:
            anchor = "end"
        y = 18 + 17 * lane
        parts.append(f'<text class="mark" x="{x + (3 if anchor == "start" else -3):.1f}" y="{y}" '
                     f'text-anchor="{anchor}">{escape(event)}</text>')
        parts.append(f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" '
                     f'y2="{height - 24}"/>')
    for number, (title, unit, lines) in enumerate(shown):
        base = TOP + number * (PANEL + GAP)
        parts += panel(base, title, unit, lines, length, across)
    for second in range(0, int(length) + 1, 20):
        parts.append(f'<text class="quiet" x="{across(second):.1f}" y="{height - 8}" '
                     f'text-anchor="middle">{second} s</text>')
    file.write_text("\n".join(parts) + "\n</svg>\n")


def panel(base, title, unit, lines, length, across):
    top, bottom = base + 18, base + PANEL
    most = max([value for _, points in lines for _, value in points] + [1e-9])
    most = nice(most)
    yield f'<text class="text" x="{LEFT}" y="{base + 8}" font-weight="600">{escape(title)}</text>'
    if sum(len(label) for label, _ in lines) > 60:
        unit = ""
    yield (f'<text class="quiet" x="{LEFT + 8 + 7.9 * len(title):.1f}" y="{base + 8}">'
           f'{escape(unit)}</text>')
    for part in (0, 0.5, 1):
        y = bottom - (bottom - top) * part
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield (f'<text class="quiet" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">'
               f'{most * part:g}</text>')
    x = WIDTH - RIGHT
    for number, (label, points) in reversed(list(enumerate(lines))):
        colour = COLOURS[number % len(COLOURS)]
        path, before = [], None
        for at, value in points:
            y = bottom - (bottom - top) * min(value / most, 1)
            new = before is None or at - before > 2.5
            path.append(f'{"M" if new else "L"}{across(at):.1f} {y:.1f}')
            before = at
        yield f'<path class="line {colour}" d="{" ".join(path)}"/>'
        if label:
            yield (f'<text class="text" x="{x}" y="{base + 8}" text-anchor="end">'
                   f'{escape(label)}</text>')
            x -= 7.3 * len(label) + 8
            yield (f'<line class="line {colour}" x1="{x - 14}" x2="{x}" y1="{base + 4}" '
                   f'y2="{base + 4}"/>')
            x -= 26


def nice(most):
    """The next of 1, 2, 5, 10 ... that is not below."""
    power = 1e-9
    while True:
        for step in (1, 2, 5):
            if most <= step * power * 1.0000001:
                return float(f"{step * power:.6g}")
        power *= 10
