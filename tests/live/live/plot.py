"""A chart as SVG: bytes a token and divergence, each encoding a point."""

import math
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 55
COLOURS = ("#1b6ca8", "#c0562b", "#3b8a4e")


def quality(series):
    """`series`: runtime → points with `row`, `bytes` and `quality`. Points without divergence are left out."""
    points = [
        (runtime, point["row"], point["bytes"], point["quality"]["kl"])
        for runtime, of_runtime in series.items()
        for point in of_runtime
        if point["quality"]["kl"] > 0
    ]
    low = math.floor(math.log10(min(kl for *_, kl in points)))
    high = math.ceil(math.log10(max(kl for *_, kl in points)))
    most = max(size for *_, size, _ in points) * 1.15

    def x(size):
        return LEFT + size / most * (WIDTH - LEFT - RIGHT)

    def y(kl):
        return TOP + (high - math.log10(kl)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "KL divergence from the exact state, by bytes a token", size=15),
    ]
    for power in range(low, high + 1):
        out.append(line(LEFT, y(10**power), WIDTH - RIGHT, y(10**power)))
        out.append(text(LEFT - 8, y(10**power) + 4, f"1e{power}", "end"))
    step = 10 ** math.floor(math.log10(most / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 8)
    for number in range(int(most // step) + 1):
        out.append(line(x(number * step), TOP, x(number * step), HEIGHT - BOTTOM))
        out.append(text(x(number * step), HEIGHT - BOTTOM + 18, f"{number * step:,.0f}", "middle"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "bytes a token, sealed", "middle"))
    names, labels = list(series), []
    for runtime, row, size, kl in points:
        colour = COLOURS[names.index(runtime) % len(COLOURS)]
        out.append(f'<circle cx="{x(size):.1f}" cy="{y(kl):.1f}" r="4" fill="{colour}"/>')
        # to the left where the right has no room
        right = x(size) + 7 + 7 * len(row) < WIDTH
        place = (x(size) + 7, "start") if right else (x(size) - 7, "end")
        out.append(text(place[0], apart(labels, place[0], y(kl) + 4), row, place[1], colour=colour))
    for at, runtime in enumerate(names):
        out.append(text(WIDTH - RIGHT - 110, TOP + 16 + 17 * at, f"● {runtime}", colour=COLOURS[at % len(COLOURS)]))
    return "\n".join([*out, "</svg>\n"])


def apart(labels, x, y):
    """The height nearest to `y` where a label meets no other."""
    steps = (step for size in range(HEIGHT) for step in (size, -size))
    free = (step for step in steps if not any(abs(x - at) < 50 and abs(y + step - high) < 12 for at, high in labels))
    labels.append((x, y + next(free)))
    return labels[-1][1]


def text(x, y, words, anchor="start", size=12, colour="#333"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def line(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
