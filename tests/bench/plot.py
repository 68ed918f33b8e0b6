"""Plots of `kvcap-bench capsule --facts FACTS`: plot.py FACTS FOLDER writes time.svg and stages.svg."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kvcap", "font.size": 9})
from matplotlib import pyplot  # noqa: E402

COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#76b7b2", "#edc948", "#777777"]
STAGES = ["header", "gather", "leaf", "cipher", "encode", "decode", "receipt", "write", "scatter"]
# verification needs no key, so that its suites are alike
VERIFIED = "chacha20-poly1305"


def time(sizes):
    """Time against size on one core, both axes logarithmic."""
    lines = {"memcpy": [(size["bytes"], size["memcpy_seconds"]) for size in sizes]}
    for size in sizes:
        for one in size["passes"]:
            name = (one["pass"], one["encoding"])
            if name in [("seal", "exact"), ("open", "exact"), ("open", "q8")] or (
                name == ("verify", "exact") and one["suite"] == VERIFIED
            ):
                points = lines.setdefault(f"{one['pass']} {one['encoding']}, {one['suite']}", [])
                points.append((size["bytes"], one["seconds_one_core"]))
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for (name, points), colour in zip(lines.items(), COLOURS):
        axes.loglog(*zip(*points), label=name, color=colour, marker=".")
    axes.set(title="Time against size, one core", xlabel="bytes", ylabel="seconds")
    axes.grid(color="#ddd")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def stages(size):
    """Cost of each stage a plain byte, and of the whole pass."""
    passes = [one for one in size["passes"] if one["pass"] != "verify" or one["suite"] == VERIFIED]
    passes.reverse()
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.25 * len(passes)), layout="constrained")
    for at, one in enumerate(passes):
        left = 0
        for stage, seconds in one["stages"]:
            wide = seconds / size["bytes"] * 1e9
            axes.barh(at, wide, left=left, color=COLOURS[STAGES.index(stage)])
            left += wide
        whole = one["seconds_one_core"] / size["bytes"] * 1e9
        axes.plot([whole, whole], [at - 0.45, at + 0.45], color="black")
        axes.text(whole, at, f" {whole:.3f}", va="center", size=7)
    names = [f"{one['pass']} {one['encoding']} {'' if one['pass'] == 'verify' else one['suite']}" for one in passes]
    axes.set_yticks(range(len(passes)), names)
    axes.set(title=f"ns a plain byte, {size['bytes']:,.0f} bytes, one core; the line is the whole pass")
    keys = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS]
    figure.legend(keys, STAGES, ncols=len(STAGES), loc="outside lower center", frameon=False, columnspacing=1)
    return figure


def main(facts, folder):
    sizes = json.loads(Path(facts).read_text())["sizes"]
    # the longest state that was gone over more than once
    usual = max((size for size in sizes if size["bytes"] < 1e9), key=lambda size: size["bytes"])
    for name, figure in [("time", time(sizes)), ("stages", stages(usual))]:
        figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
