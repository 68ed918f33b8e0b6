"""Capsules of vLLM's requests and of LMCache's chunks, and their section of docs/results/live.md: python -m live.in_vllm KVCAP

What other runtimes do by files and the program is done here in the engine's own process, by the wheel. An engine takes
tens of seconds to begin, so that one answers several requests, with its prefix cache off.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import kvcap
from live import engine_report, environments
from live.bench import Plan, agreement
from live.invalid import OTHER, Fallback, cases
from live.kvcap import Kvcap, Refused
from live.quality import compare, log_softmax, mean
from live.valid import Cycle
from live.vllm_engine import Engine, connector

PREFIX, STEPS, CYCLES, ATTEMPTS = 1000, 64, 3, 3
#: held-out tokens of each text that quality is measured with
HELD_OUT = 256
ROWS = {
    "exact": {},
    "exact, compressed": {"compress": True},
    "q8": {"encoding": "q8"},
    "k8v4": {"encoding": "k8v4"},
    "q4": {"encoding": "q4"},
    "q4c": {"encoding": "q4c"},
}


class InVllm:
    def __init__(self, folder, program, say):
        self.folder, self.say, self.kvcap = folder, say, Kvcap(program)
        self.capsules = folder / "capsules"
        self.capsules.mkdir()
        kvcap.new_signing_key(folder / "issuer.key", issuer="prefill.example.com")
        kvcap.new_wrapping_key(folder / "reader.key")
        self.environments = environments.make("vllm", folder / "environments")
        self.adapter = environments.for_peft(folder / "peft")
        self.prompts = list(json.loads((environments.MODEL / "prompts.json").read_text()).values())
        self.prompt = self.prompts[0][: PREFIX + 1]
        self.other = self.prompts[1][: PREFIX + 1]

    def settings(self, **more):
        names = {"sign_key": "issuer.key", "wrap_key": "reader.key", "trust": "issuer.key.pub"}
        return {name: str(self.folder / file) for name, file in names.items()} | {"ttl": "1h"} | more

    def profile(self, **more):
        return kvcap.Profile(**self.settings(model=self.environments["base"]["model"], **more))

    def engine(self, environment="base", connects=True):
        """A fresh process."""
        self.say(f"vLLM: an engine of {environment}")
        options = {}
        if environment == "override":
            rope = {"rope_theta": environments.OTHER_BASE, "rope_type": "default"}
            options["hf_overrides"] = {"rope_parameters": rope}
        if environment == "adapter":
            options["enable_lora"] = True
        connects = connector(self.settings(), self.capsules) if connects else None
        engine = Engine(self.environments[environment]["model"], connects, **options)
        engine.more = {"lora": str(self.adapter)} if environment == "adapter" else {}
        return engine

    def seal_as(self, name, state, tokens, version, ttl="1h", compress=False, **settings):
        """Another capsule of a state that the engine's own holds."""
        profile = self.profile(ttl=ttl, **settings)
        said = {"runtime": "hf", "runtime_version": version, "tokens": tokens, "compress": compress}
        return kvcap.seal(state, self.capsules / name, profile=profile, replace=True, **said)

    # what must restore

    def baseline(self):
        """A live run and a cold one."""
        with self.engine() as first:
            live = first.ask(self.prompt, STEPS, logits=True)
            self.version = f"vllm-{first.version}"
        with self.engine(connects=False) as second:
            cold = second.ask(self.prompt, STEPS, logits=True)
            colds = [second.ask(self.prompt)["seconds"] for _ in range(CYCLES)]
        return live, cold, median(colds)

    def cycle(self, row, engine, name, live, checkpoint):
        start = time.monotonic()
        kvcap.verify(self.capsules / name, profile=self.profile())
        validated = time.monotonic() - start
        answer = engine.ask(self.prompt, STEPS, logits=True, kvcap={"open": name})
        if "code" in answer["said"]:
            raise RuntimeError(f"vLLM, {row}: {answer['said']}")
        stable, difference = agreement(answer, live)
        claims = kvcap.inspect(self.capsules / name)
        banks = self.kvcap("inspect", self.capsules / name)["unverified"]["banks_total"]["encoded_bytes"]
        return Cycle(row, stable, difference, claims.positions[1], answer["cached"], self.state_bytes, claims.length, banks,
                     checkpoint, validated, answer["took"]["open"] + answer["took"]["start_load_kv"])

    def cycles(self, live):
        """Sealed by an engine that is killed, opened by a fresh one; other encodings are sealed of the same state."""
        for number in range(CYCLES):
            name = f"exact{number}.kvcap"
            with self.engine() as first:
                sealed = first.ask(self.prompt[:PREFIX], kvcap={"seal": name})
            opened = kvcap.open(self.capsules / name, profile=self.profile())
            self.state_bytes = opened.length
            with self.engine() as second:
                yield self.cycle("exact", second, name, live, sealed["took"]["seal"])
                if number:
                    continue
                for row, settings in list(ROWS.items())[1:]:
                    start = time.monotonic()
                    self.seal_as("row.kvcap", opened.state, opened.tokens, self.version, **settings)
                    yield self.cycle(row, second, "row.kvcap", live, time.monotonic() - start)

    def quality(self):
        """Held-out tokens after the restored ones, one forced after the other: NLL, KL and agreement against the exact state."""
        parts = {row: [] for row in ROWS}
        with self.engine() as engine:
            for text in self.prompts:
                engine.ask(text[:PREFIX], kvcap={"seal": "quality.kvcap"})
                opened = kvcap.open(self.capsules / "quality.kvcap", profile=self.profile())
                rest = text[PREFIX : PREFIX + HELD_OUT + 1]
                exact = None
                for row, settings in ROWS.items():
                    self.seal_as("row.kvcap", opened.state, opened.tokens, self.version, **settings)
                    found = log_softmax(
                        engine.ask(text[:PREFIX] + rest[:1], HELD_OUT, logits=True, forced=rest[1:],
                                   kvcap={"open": "row.kvcap"})["logits"]
                    )
                    exact = found if exact is None else exact
                    parts[row].append(compare(exact, found, rest[1:]))
                    (self.capsules / "row.kvcap").unlink()
        return {row: mean(each) for row, each in parts.items()}

    # what must not

    def make_invalid(self):
        capsule = self.capsules / "exact0.kvcap"
        content = capsule.read_bytes()
        opened = kvcap.open(content, profile=self.profile())
        (self.capsules / "valid.kvcap").write_bytes(content)
        (self.capsules / "truncated.kvcap").write_bytes(content[: len(content) * 3 // 4])
        flipped = bytearray(content)
        flipped[len(content) * 3 // 4] ^= 1
        (self.capsules / "flipped.kvcap").write_bytes(flipped)
        self.seal_as("version.kvcap", opened.state, opened.tokens, "vllm-0.0.1")
        self.without_a_layer(opened)
        expires = self.seal_as("expired.kvcap", opened.state, opened.tokens, self.version, ttl="1s").expires
        time.sleep(max(0, expires - time.time()) + 1)

    def without_a_layer(self, opened):
        """From a saver that lost the last layer and a sealer that did not look."""
        from kvcap import _rows

        length, layers = _rows.layers(opened.state)
        kvid = self.folder / "model.kvid"
        self.kvcap("model-id", self.environments["base"]["model"], "-o", kvid)
        kvid.write_text(environments.of_fewer_layers(kvid.read_text()))
        profile = kvcap.Profile(**self.settings(model=str(kvid)))
        said = {"runtime": "hf", "runtime_version": self.version, "tokens": opened.tokens}
        kvcap.seal(_rows.as_file(layers[:-1], length), self.capsules / "bank_missing.kvcap", profile=profile, **said)

    def fallbacks(self, cold):
        """Each case three times, and what the engine says then against what it said before it saw a capsule."""
        self.make_invalid()
        by_engine = {}
        for case in cases("vllm"):
            by_engine.setdefault(case.environment, []).append(case)
        found = {}
        for environment, mine in by_engine.items():
            with self.engine(environment) as engine:
                # before it has seen a capsule
                from_nothing = {prompt: engine.ask(list(prompt), STEPS, logits=True, **engine.more)
                                for prompt in {tuple(self.prompt_of(case)) for case in mine}}
                if environment in OTHER and agreement(from_nothing[tuple(self.prompt)], cold) == (STEPS, 0.0):
                    raise RuntimeError(f"vLLM: {environment} changes nothing")
                for case in mine:
                    found[case.name] = self.fallback(engine, case, from_nothing[tuple(self.prompt_of(case))])
        return [found[case.name] for case in cases("vllm")]

    def prompt_of(self, case):
        return self.other if case.other_prompt else self.prompt

    def fallback(self, engine, case, from_nothing):
        codes, as_cold, clean, says = [], True, True, "accepted"
        left = sorted(self.capsules.iterdir())
        for _ in range(ATTEMPTS):
            wanted = {"open": f"{case.capsule}.kvcap"}
            answer = engine.ask(self.prompt_of(case), STEPS, logits=True, kvcap=wanted, **engine.more)
            if "code" in answer["said"]:
                codes.append(answer["said"]["code"])
                says = answer["said"]["refused"]
            as_cold &= agreement(answer, from_nothing) == (STEPS, 0.0)
            clean &= answer["cached"] == answer["said"]["restored"] == 0
        clean &= left == sorted(self.capsules.iterdir())
        return Fallback(case.name, case.expected, codes, says, as_cold, clean)

    def ineffective(self):
        """The state is dropped after it was restored, and the engine evaluates everything: the receipt's code."""
        with self.engine() as engine:
            engine.ask(self.prompt, kvcap={"open": "valid.kvcap"})
            engine.drop()
            evaluated = len(self.prompt) - engine.ask(self.prompt)["cached"]
        return self.receipt("valid.kvcap", evaluated), True

    def receipt(self, name, evaluated):
        """The code of `kvcap check-restore`, 0 where it agrees."""
        told = ("--trust", self.folder / "issuer.key.pub", "--model", self.environments["base"]["model"])
        told += ("--runtime", f"hf={self.version}", "--prompt", len(self.prompt), "--evaluated", evaluated)
        try:
            self.kvcap("check-restore", self.capsules / name, *told)
        except Refused as refused:
            return refused.code
        return 0


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --runtime vllm")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    program = parser.parse_args().kvcap

    def say(text):
        print(text, file=sys.stderr, flush=True)

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = InVllm(Path(folder), program, say)
        live, cold, prefill = bench.baseline()
        plan = Plan(prefix=PREFIX, steps=STEPS, cycles=CYCLES, attempts=ATTEMPTS)
        result = engine_report.InEngine("vLLM", bench.version.removeprefix("vllm-"), plan, agreement(cold, live), prefill)
        result.cycles = list(bench.cycles(live))
        for fallback in bench.fallbacks(cold):
            say(f"vLLM: {fallback.name}: {', '.join(f'KVC-{code}' for code in fallback.codes)}")
            result.fallbacks.append(fallback)
        result.ineffective = bench.ineffective()
        say("vLLM: quality")
        result.quality = bench.quality()
        from live import in_lmcache
        chunks = in_lmcache.run(bench)
    print(engine_report.tables(result, chunks))
    faults = [*result.faults(), *chunks.faults()]
    for fault in faults:
        say(f"FAULT {fault}")
    if faults:
        sys.exit(1)
    engine_report.write(result, chunks, load)


if __name__ == "__main__":
    main()
