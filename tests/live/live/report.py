"""Results as tables, and as `docs/results/live.md`."""

import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from live import plot
from live.across import chained

RESULTS = Path(__file__).parents[3] / "docs" / "results"
PACKAGES = ("mlx", "mlx-lm", "llama-cpp-python", "torch", "transformers", "numpy")


@dataclass
class Result:
    """What was found of one runtime."""

    runtime: str
    version: str
    plan: object
    #: tokens and largest difference of logits of a cold start beside the live run
    cold: tuple
    prefill: float
    cycles: list = field(default_factory=list)
    fallbacks: list = field(default_factory=list)
    #: the receipt's code for a runtime that evaluates everything again, and whether its tokens were the cold ones
    ineffective: tuple = (0, False)
    quality: dict = field(default_factory=dict)

    def of_row(self, row):
        return [cycle for cycle in self.cycles if cycle.row == row]

    def rows(self):
        return list(dict.fromkeys(cycle.row for cycle in self.cycles))

    def faults(self):
        """What must hold and does not."""
        whole = (self.plan.steps, 0.0)
        if self.cold != whole:
            yield f"{self.runtime}: a cold start differs from the live run: {self.cold}"
        for cycle in self.cycles:
            if cycle.row.startswith("exact") and (cycle.stable, cycle.difference) != whole:
                yield f"{self.runtime}, {cycle.row}: {cycle.stable} tokens, logits differ by {cycle.difference}"
            if not cycle.reused == cycle.claimed == self.plan.prefix:
                yield f"{self.runtime}, {cycle.row}: {cycle.reused} tokens reused of {cycle.claimed}"
        for fallback in self.fallbacks:
            if not fallback.ok:
                yield f"{self.runtime}, {fallback}"
        if self.ineffective[0] != 926:
            yield f"{self.runtime}: a restore without effect is KVC-{self.ineffective[0]}"
        if self.quality and self.quality["exact"]["kl"] != 0:
            yield f"{self.runtime}: the exact encoding changes predictions: {self.quality['exact']}"


def markdown(results, crossings, refusals):
    """All tables."""
    crossed = [across(crossings, refusals, results[0].plan)] if crossings else []
    return "\n\n".join([conformance(results), fallbacks(results), *qualities(results), *crossed])


def faults(crossings, refusals, plan):
    """What must hold across runtimes and does not."""
    for crossing in crossings:
        if not crossing.reused == crossing.claimed == plan.prefix:
            yield f"{crossing.source} → {crossing.target}: {crossing.reused} tokens reused of {crossing.claimed}"
        if crossing.found[0] != plan.steps:
            yield f"{crossing.source} → {crossing.target}: {exactness(*crossing.found, plan)}"
    for refusal in refusals:
        if refusal.code != refusal.expected:
            yield f"{refusal}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def conformance(results):
    head = ["runtime", "row", "cycles", "stable window", "restore = live", "cold = live", "reused", "quality (KL)"]
    head += ["checkpoint", "validate", "restore + materialize", "cold", "state → capsule, bytes", "fallbacks"]
    rows = []
    for result in results:
        for row in result.rows():
            cycles = result.of_row(row)
            first = row == result.rows()[0]
            rows.append(
                [
                    f"{result.runtime} {result.version}" if first else "",
                    row,
                    len(cycles),
                    f"{result.plan.prefix:,} + {min(cycle.stable for cycle in cycles)}",
                    exactness(min(c.stable for c in cycles), max(c.difference for c in cycles), result.plan),
                    exactness(*result.cold, result.plan) if first else "",
                    f"{min(cycle.reused for cycle in cycles):,} of {cycles[0].claimed:,}",
                    f"{result.quality[row]['kl']:.2g}" if row in result.quality else "",
                    *(ms(median(getattr(c, name) for c in cycles)) for name in ("checkpoint", "validate", "restore")),
                    ms(result.prefill) if first else "",
                    f"{cycles[0].state_bytes:,} → {cycles[0].capsule_bytes:,}",
                    fallen(result) if first else "",
                ]
            )
    return table(head, rows)


def exactness(stable, difference, plan):
    if (stable, difference) == (plan.steps, 0.0):
        return "exact"
    return f"{stable} of {plan.steps} tokens, Δ logit {difference:.2g}"


def fallen(result):
    good = sum(fallback.ok for fallback in result.fallbacks)
    return f"{good} of {len(result.fallbacks)}"


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"


def fallbacks(results):
    head = ["invalid artefact", *(result.runtime for result in results)]
    rows = []
    for at, fallback in enumerate(results[0].fallbacks):
        rows.append([fallback.name, *(code(result.fallbacks[at]) for result in results)])
    rows.append(["restored and not used", *(f"KVC-{result.ineffective[0]}" for result in results)])
    return table(head, rows)


def code(fallback):
    said = ", ".join(f"KVC-{code}" for code in sorted(set(fallback.codes))) or "accepted"
    return f"{said} × {len(fallback.codes)}" + ("" if fallback.ok else ", WRONG")


def qualities(results):
    if not results[0].quality:
        return []
    head = ["runtime", "row", "bytes a token", "of exact", "NLL", "perplexity", "KL", "top-1 agreement", "tokens"]
    rows = []
    for result in results:
        for point in points(result):
            quality = point["quality"]
            rows.append(
                [
                    result.runtime if point["row"] == "exact" else "",
                    point["row"],
                    f"{point['bytes']:,.0f}",
                    f"{point['share']:.3f}",
                    f"{quality['nll']:.5f}",
                    f"{2.718281828459045 ** quality['nll']:.3f}",
                    f"{quality['kl']:.2g}",
                    f"{quality['top1']:.4f}",
                    f"{quality['tokens']:,}",
                ]
            )
    return [table(head, rows)]


def across(crossings, refusals, plan):
    head = ["state of", "continued by", "as its own live run", "the two live runs", "reused", "open --to"]
    rows = [
        [
            crossing.source,
            crossing.target,
            exactness(*crossing.found, plan),
            exactness(*crossing.apart, plan),
            f"{crossing.reused:,} of {crossing.claimed:,}",
            ms(crossing.opened),
        ]
        for crossing in crossings
    ]
    rows += [[refusal.what, refusal.target, f"KVC-{refusal.code}", "", "", ""] for refusal in refusals]
    return table(head, rows)


def points(result):
    """Each row's bytes of banks a token, and quality."""
    size = {row: result.of_row(row)[0].bank_bytes / result.plan.prefix for row in result.rows()}
    return [
        {"row": row, "bytes": size[row], "share": size[row] / size["exact"], "quality": quality}
        for row, quality in result.quality.items()
    ]


def write(results, crossings, refusals):
    """`docs/results/live.md` and its chart."""
    chart = plot.quality({result.runtime: points(result) for result in results})
    (RESULTS / "live.svg").write_text(chart)
    plan = results[0].plan
    conformance_, fallbacks_, quality, crossed = markdown(results, crossings, refusals).split("\n\n")
    text = TEXT.format(
        machine=machine(),
        prefix=plan.prefix,
        root=chained(plan),
        steps=plan.steps,
        cycles=plan.cycles,
        attempts=plan.attempts,
        conformance=conformance_,
        fallbacks=fallbacks_,
        quality=quality,
        across=crossed,
        scored=results[0].quality["exact"]["tokens"],
    )
    page = RESULTS / "live.md"
    page.write_text("\n\n".join([text.rstrip("\n"), *sections(page)[1]]) + "\n")


#: headings of the page's last sections, each of which a run of its own writes
IN_ENGINES = "## In vLLM and LMCache"
IN_LLAMA_SERVER = "## A real model in llama-server"
OWN = (IN_ENGINES, IN_LLAMA_SERVER)


def sections(page):
    """Those sections as they stand, by heading, and all that is before them."""
    before, *parts = page.read_text().split("\n## ")
    found = {}
    for part in parts:
        heading = "## " + part.partition("\n")[0]
        if heading in OWN:
            found[heading] = f"## {part}".rstrip("\n")
        else:
            before += f"\n## {part}"
    return before.rstrip("\n"), [found[heading] for heading in OWN if heading in found]


def write_section(heading, text):
    """Replaces one, and leaves the others as they are."""
    page = RESULTS / "live.md"
    before, own = sections(page)
    own = {section.partition("\n")[0]: section for section in own} | {heading: text.rstrip("\n")}
    page.write_text("\n\n".join([before, *(own[heading] for heading in OWN if heading in own)]) + "\n")


def machine(packages=PACKAGES):
    cpu = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, load average "
        f"{os.getloadavg()[2]:.1f}. Python {platform.python_version()}, {packages}. {time.strftime('%Y-%m-%d', time.gmtime())}."
    )


TEXT = """\
# Resuming in live runtimes

Written by `tests/live/run`, which repeats all of it; see [`tests/live/`](../../tests/live/README.md). What bindings cost in the process where a cache lives: [in process](in-process.md).

{machine}

A model of 6 M parameters is prefilled with {prefix:,} tokens in process A; the runtime saves its cache, `kvcap seal` seals the file, A goes on for
{steps} tokens (the live run) and is killed with SIGKILL, and the file is deleted. Process B opens the capsule, which verifies every byte, compares
model, tokenizer, rope, prompt and runtime version with what is on the disk, loads the state, and goes on for {steps} tokens. A cold start is a third
process that prefills again. Each token is the most likely one.

## Conformance

- stable window: tokens restored + tokens until the first that differs from the live run. exact: all {steps} tokens and every logit to the last bit.
- own cache: the runtime quantizes its cache itself; its bits are sealed. quantized cache: sealed with loss from an f16 cache, and opened as mlx-lm's own.
- a lossy row parts from the live run where two tokens are almost equally likely (in bf16 their logits may be equal): KL says what the loss is worth.
- sliding window, recurrent, convolution: layers of these kinds beside full attention, in models of random weights (Gemma 3, Qwen 3.5, LFM 2 in small).
- reused: tokens of the prompt that the runtime did not evaluate again, by its own count, of those that the capsule claims (`kvcap check-restore`).
- checkpoint: the runtime's own save and `kvcap seal`. validate: `kvcap verify`. restore + materialize: `kvcap open` and the runtime's own load. cold:
  evaluation of the {prefix:,} tokens. Times of `kvcap` are of the whole process; medians of the cycles. A model of this size prefills faster than
  it starts processes: with real ones, cold grows by orders of magnitude and the rest with the bytes. Where the load average above is more than the
  cores, times are those of a busy machine.
- fallbacks: invalid artefacts that led to a cold start as they should, of those tried.

{conformance}

## Invalid artefacts

Each is opened {attempts} times in a fresh process, which then starts cold. Counted as right: the same code each time, no file left behind, no token in the
runtime's cache, and tokens and logits of the cold start those of a process that never saw a capsule. `restored and not used`: the runtime loads
the state, drops it, and evaluates the whole prompt; the receipt tells.

{fallbacks}

## Quality

The suite's small model says which encoding is better, not what one costs: on a real model KL is about 25 times as large ([codecs](codecs.md)).

{scored:,} held-out tokens that follow the restored {prefix:,} (two texts), predicted with the restored state; KL and agreement are against the exact
state, which a live run's equals. Bytes are those of sealed banks. mlx-lm predicts them in binary32 from its binary16 caches, in steps of 64
tokens, in every row alike: MLX's CPU kernel for quantized binary16 takes a quarter of a second a token. A quantized cache quantizes the held-out
tokens as well.

{quality}

![KL against bytes a token](live.svg)

## Into another runtime

`kvcap open --to`: the state that one runtime saved, continued by another. The weights are one model in two formats, a folder and a GGUF file, and
`kvcap model-id --equate` compared and signed that; between mlx-lm and transformers it is one folder.

- as its own live run: tokens and logits beside those of the runtime that goes on, where it had computed the {prefix:,} tokens itself.
- the two live runs: the same comparison without any capsule. So much differs what two runtimes compute.
- values by channel: llama.cpp without flash attention. own: the cache that the runtime quantizes itself. transformers is run in binary16 here but
  where bf16 is said. chain of two: a capsule of {root:,} tokens and its increment.
- KVC-…: refused, and nothing written.

{across}
"""
