"""The chart of the hot-window study as SVG: likelihood by window, and tokens evaluated."""

import math
from statistics import median

from live.plot import apart, line, text

WIDTH, HEIGHT, TOP, BOTTOM = 860, 400, 60, 55
#: left and right ends of the two panels
PANELS = ((60, 500), (590, 840))
COLOURS = ("#1b6ca8", "#c0562b", "#3b8a4e", "#7a4fa3", "#777777")


def chart(study):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    return "\n".join([*out, *likelihood(study), *evaluated(study), "</svg>\n"])


def places(study, left, right):
    """Where each window stands."""
    step = (right - left) / len(study.windows)
    return {size: left + step * (at + 0.5) for at, size in enumerate(study.windows)}


def frame(study, panel, title, marks, y):
    """Title, lines across with their labels, and the windows below."""
    left, right = PANELS[panel]
    yield text(left, 24, title, size=14)
    for value, label in marks:
        yield line(left, y(value), right, y(value))
        yield text(left - 8, y(value) + 4, label, "end")
    for size, x in places(study, left, right).items():
        yield text(x, HEIGHT - BOTTOM + 18, f"{size:,}", "middle")
    yield text((left + right) / 2, HEIGHT - 12, "window, tokens", "middle")


def likelihood(study):
    """A line a workload; its smallest stable window is filled, and cold rebuilds are crosses."""
    left, right = PANELS[0]
    x = places(study, left, right)
    series = {name: [study.nats(name, size) for size in study.windows] for name in study.workloads()}
    high = math.ceil(max(map(max, series.values())))

    def y(nats):
        return HEIGHT - BOTTOM - nats / high * (HEIGHT - TOP - BOTTOM)

    marks = [(nats, str(nats)) for nats in range(high + 1)]
    yield from frame(study, 0, "Nats a token of what needs the past", marks, y)
    yield text(left, 42, "filled: smallest stable window; +: computed again", size=11)
    labels = []
    for (name, values), colour in zip(series.items(), COLOURS):
        points = [(x[size], y(nats)) for size, nats in zip(study.windows, values)]
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        for size, (at, height) in zip(study.windows, points):
            fill = colour if size == study.stable(name) else "white"
            yield f'<circle cx="{at:.1f}" cy="{height:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
            yield text(at, y(study.nats(name, size, "computed again")) + 4, "+", "middle", colour=colour)
        at, height = points[-1]
        yield text(at + 10, apart(labels, at + 10, height + 4), name, colour=colour)


def evaluated(study):
    """Tokens until the first new one, on a scale of powers of ten."""
    left, right = PANELS[1]
    x = places(study, left, right)
    arms = {"computed again": COLOURS[1], "restored": COLOURS[0]}
    high = 4

    def y(tokens):
        return HEIGHT - BOTTOM - math.log10(tokens) / high * (HEIGHT - TOP - BOTTOM)

    marks = [(10**power, f"{10**power:,}") for power in range(high + 1)]
    yield from frame(study, 1, "Tokens evaluated for the next turn", marks, y)
    for at, (arm, colour) in enumerate(arms.items()):
        for size in study.windows:
            tokens = median(window.arms[arm].evaluated for window in study.found if window.size == size)
            middle = x[size] + (-12 if at == 0 else 12)
            yield bar(middle - 10, y(tokens), 20, HEIGHT - BOTTOM - y(tokens), colour)
        yield text(left + 118 * at, 42, f"■ {arm}", size=11, colour=colour)


def bar(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height:.1f}" fill="{colour}"/>'
