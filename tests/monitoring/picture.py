"""Draws panels as SVG that looks right on a light and on a dark page."""

from xml.sax.saxutils import escape

# In pixels. To the right of the panels stand the names of their lines.
WIDTH, LEFT, RIGHT = 900, 60, 190
PANEL, GAP, HEAD, LANE, LETTER = 112, 34, 24, 17, 6.7
COLOURS = ("a", "b", "c", "d", "e", "f")

STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
.page { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
.grid { stroke: #d1d9e0; } .event { stroke: #9a6700; stroke-dasharray: 2 3; }
.mark { fill: #9a6700; } .halo { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.a { stroke: #0969da; } .b { stroke: #1a7f37; } .c { stroke: #cf222e; }
.d { stroke: #8250df; } .e { stroke: #bc4c00; } .f { stroke: #57606a; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } .text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
  .grid { stroke: #3d444d; } .event { stroke: #d29922; } .mark { fill: #d29922; }
  .halo { stroke: #0d1117; }
  .a { stroke: #4493f8; } .b { stroke: #3fb950; } .c { stroke: #f85149; }
  .d { stroke: #ab7df8; } .e { stroke: #db6d28; } .f { stroke: #9198a1; }
}
"""


def panels(of):
    """Title, unit, lines: the dashboard's expressions with a fixed rate window."""
    def named(found, *keys):
        """Those that are ever above zero."""
        return [(" ".join(metric.get(key, "") for key in keys), points)
                for metric, points in found if any(value for _, value in points)]

    def hashes(found):
        return [(metric["key_id_hash"][7:15], points) for metric, points in found]
    rate = "rate(barbican_kms_%s[5s])"
    quantile = ("clamp_max(1e6 * histogram_quantile(%s, sum by (le) (rate("
                'barbican_kms_request_duration_seconds_bucket{method="Decrypt"}[5s]))), 1000)')
    return [
        ("Calls", "per second", named(of(
            "sum by (method, code) (" + rate % 'requests_total{method=~"Encrypt|Decrypt"}'
            + ")"), "method", "code")),
        ("Decrypt", "µs, cut off at 1,000", [
            (label, points) for label, q in (("half", 0.5), ("99 %", 0.99))
            for _, points in of(quantile % q)]),
        ("Write key", "1 = Encrypt uses it", hashes(of("barbican_kms_key_write"))),
        ("Since Barbican confirmed the key", "s",
         hashes(of("barbican_kms_key_confirmed_age_seconds"))),
        ("Requests to OpenStack", "each s", named(of(
            "sum by (outcome) (" + rate % "openstack_requests_total" + ")"), "outcome")),
        ("Ready", "1 = a write key is held", [("", points) for _, points in
                                              of("barbican_kms_ready")]),
    ]


def draw(file, length, events, of):
    shown = panels(of)
    lanes = placed(events, length)
    top = HEAD + LANE * (1 + max(lanes))
    height = top + len(shown) * (PANEL + GAP) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" role="img">',
             "<title>A sidecar under load, through a rotation, an outage, a bad file, a "
             "revocation and a new credential</title>",
             f"<style>{STYLE}</style>",
             f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>']
    for (at, event), lane in zip(events, lanes):
        x, y = across(at, length), 18 + LANE * lane
        parts.append(f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" '
                     f'y2="{height - 24}"/>')
        parts.append(f'<text class="mark halo" x="{x + 4:.1f}" y="{y}">{escape(event)}</text>')
    for number, (title, unit, lines) in enumerate(shown):
        parts += panel(top + number * (PANEL + GAP), title, unit, lines, length)
    for second in range(0, int(length) + 1, 30):
        parts.append(f'<text class="quiet" x="{across(second, length):.1f}" y="{height - 8}" '
                     f'text-anchor="middle">{second} s</text>')
    file.write_text("\n".join(parts) + "\n</svg>\n")


def across(at, length):
    return LEFT + (WIDTH - LEFT - RIGHT) * at / length


def placed(events, length):
    """A lane for each event's name: below all names that its line would go through."""
    lanes, taken = [], []
    for at, event in events:
        x = across(at, length)
        lane = 1 + max([lane for lane, end in taken if end > x], default=-1)
        taken.append((lane, x + LETTER * len(event) + 10))
        lanes.append(lane)
    return lanes


def panel(base, title, unit, lines, length):
    top, bottom = base + 18, base + PANEL
    most = nice(max([value for _, points in lines for _, value in points] + [1e-9]))
    yield (f'<text class="text halo" x="{LEFT}" y="{base + 8}"><tspan font-weight="600">'
           f'{escape(title)}</tspan> <tspan class="quiet">{escape(unit)}</tspan></text>')
    for part in (0, 0.5, 1):
        y = bottom - (bottom - top) * part
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield (f'<text class="quiet" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">'
               f'{most * part:g}</text>')
    # The first line is drawn last, over the others; names stand beside the panel.
    for number, (label, points) in reversed(list(enumerate(lines))):
        colour = COLOURS[number % len(COLOURS)]
        path, before = [], None
        for at, value in points:
            y = bottom - (bottom - top) * min(value / most, 1)
            new = before is None or at - before > 2.5
            path.append(f'{"M" if new else "L"}{across(at, length):.1f} {y:.1f}')
            before = at
        yield f'<path class="line {colour}" d="{" ".join(path)}"/>'
        if label:
            x, y = WIDTH - RIGHT + 12, top + 8 + 16 * number
            yield f'<line class="line {colour}" x1="{x}" x2="{x + 14}" y1="{y - 4}" y2="{y - 4}"/>'
            yield f'<text class="text" x="{x + 20}" y="{y}">{escape(label)}</text>'


def nice(most):
    """The next of 1, 2, 3, 5, 10 ... that is not below."""
    power = 1e-9
    while True:
        for step in (1, 2, 3, 5):
            if most <= step * power * 1.0000001:
                return float(f"{step * power:.6g}")
        power *= 10
