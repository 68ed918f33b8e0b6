"""A state that one runtime saved, continued by another: kvcap open --to."""

from dataclasses import dataclass

from live.bench import KVCAP_NAMES, agreement
from live.kvcap import Refused

#: a runtime with one kind of cache: what varies in its environment, and options of `kvcap open` for it
CACHES = {
    "mlx-lm": ("mlx-lm", {}, ("--kv-type", "f16")),
    "mlx-lm, own q8": ("mlx-lm", {"cache": "q8"}, ("--kv-type", "q8_g64")),
    "llama.cpp": ("llama.cpp", {}, ("--kv-type", "f16")),
    "llama.cpp, values by channel": ("llama.cpp", {"flash": False}, ("--kv-type", "f16", "--flash-attn", "off")),
    "llama.cpp, own q8_0": ("llama.cpp", {"cache": "q8_0"}, ("--kv-type", "q8_0")),
    "transformers": ("transformers", {"dtype": "float16"}, ("--kv-type", "f16")),
    "transformers, bf16": ("transformers", {}, ("--kv-type", "bf16")),
}
PAIRS = [
    ("mlx-lm", "llama.cpp"),
    ("mlx-lm", "llama.cpp, values by channel"),
    ("mlx-lm", "llama.cpp, own q8_0"),
    ("mlx-lm", "transformers"),
    ("llama.cpp", "mlx-lm"),
    ("llama.cpp", "mlx-lm, own q8"),
    ("llama.cpp", "transformers"),
    ("llama.cpp, values by channel", "transformers"),
    ("llama.cpp, own q8_0", "mlx-lm"),
    ("transformers", "mlx-lm"),
    ("transformers", "llama.cpp"),
    ("transformers, bf16", "llama.cpp"),
    ("transformers, bf16", "mlx-lm"),
]
#: the same capsule in two parts
CHAINED = ("mlx-lm", "llama.cpp")


@dataclass
class Crossing:
    """One state continued by another runtime."""

    source: str
    target: str
    #: tokens and largest difference of logits beside the target's own live run
    found: tuple
    #: the same of the two live runs, without any capsule
    apart: tuple
    claimed: int
    reused: int
    #: seconds of `kvcap open --to`
    opened: float


class Saved:
    """What a live run of one runtime and cache left: a capsule, and the run."""

    def __init__(self, benches, name):
        runtime, changes, self.options = CACHES[name]
        self.name, self.bench = name, benches[runtime]
        bench = self.bench
        bench.environments[name] = bench.environments["base"] | changes
        self.capsule = bench.folder / f"across {name}.kvcap"
        state = bench.state(f"across {name}")
        process, self.live = bench.live(name, state=state)
        bench.seal(state, self.capsule, environment=name)
        if name == CHAINED[0]:
            self.chain = chain(bench, state, self.capsule)
        bench.kill(process)
        state.unlink()


def chain(bench, state, whole):
    """The state as two capsules: its first tokens, and an increment."""
    root, tip = (bench.folder / f"across {name}.kvcap" for name in ("root", "tip"))
    keys = ("--sign-key", bench.sign, "--wrap-key", bench.wrap)
    bench.kvcap("truncate", whole, "--tokens", chained(bench.plan), "-o", root, *bench.trust, *keys)
    bench.seal(state, tip, "--parent", root, *bench.trust)
    return tip


def chained(plan):
    """Tokens of the first part of the chain."""
    return plan.prefix * 3 // 5


def run(benches, say):
    """Every pair of the runtimes that were run, as crossings."""
    pairs = [pair for pair in PAIRS if all(CACHES[name][0] in benches for name in pair)]
    statement = vouched(benches)
    saved = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        say(f"across: {name}")
        saved[name] = Saved(benches, name)
    for one, other in pairs:
        say(f"across: {one} → {other}")
        yield crossed(saved[one], saved[other], statement)
        if (one, other) == CHAINED:
            yield crossed(saved[one], saved[other], statement, saved[one].chain, f"{one}, chain of two")


def vouched(benches):
    """Options that name a signed statement that the folder and the GGUF file are one model."""
    folders = [bench for name, bench in benches.items() if name != "llama.cpp"]
    if "llama.cpp" not in benches or not folders:
        return ()
    bench = benches["llama.cpp"]
    statement = bench.folder / "one-model"
    models = (each.environments["base"]["model"] for each in (folders[0], bench))
    bench.kvcap("model-id", "--equate", *models, "--sign-key", bench.sign, "-o", statement)
    return ("--equivalence", statement, "--vouched-by", f"{bench.sign}.pub")


def crossed(source, target, statement, capsule=None, name=None):
    bench, into = source.bench, target.bench
    opening = [capsule or source.capsule, *bench.expectations(source.name)]
    opening += ["--wrap-key", bench.wrap, "--tokens", bench.tokens, *to(into), *target.options]
    if "llama.cpp" in (bench.runtime, into.runtime):
        opening += statement
    answer = into.restore(opening, target.name)
    if answer["codes"]:
        raise RuntimeError(f"{source.name} → {target.name}: {answer['message']}")
    receipt = bench.receipt(source.capsule, answer, source.name)
    return Crossing(
        source=name or source.name,
        target=target.name,
        found=agreement(answer, target.live),
        apart=agreement(source.live, target.live),
        claimed=receipt["claimed"],
        reused=receipt["reused"],
        opened=answer["open_s"],
    )


def to(bench, model=None):
    model = model or bench.environments["base"]
    # the version of llama.cpp that llama-cpp-python builds reads no newer file
    written = ("--target-format", "ggsq-3") if bench.runtime == "llama.cpp" else ()
    return ("--to", KVCAP_NAMES[bench.runtime], "--target-model", model["model"], *written)


@dataclass
class Refusal:
    """What is not opened into another runtime."""

    what: str
    target: str
    expected: int
    code: int


def refused(benches):
    """Layers that have no form elsewhere, and a model that nobody vouches for."""
    for source, name, target, expected in [
        ("transformers", "sliding window", "mlx-lm", 922),
        ("transformers", "recurrent", "mlx-lm", 922),
        ("transformers", "convolution", "mlx-lm", 922),
        ("mlx-lm", "valid", "llama.cpp", 601),
    ]:
        if source not in benches or target not in benches:
            continue
        bench = benches[source]
        model = bench.environments.get(name)
        opening = ["open", bench.folder / f"{name}.kvcap", *bench.trust, "--wrap-key", bench.wrap]
        out, code = bench.folder / "across refused", 0
        try:
            bench.kvcap(*opening, "-o", out, *to(benches[target], model))
        except Refused as error:
            code = error.code
        assert not out.exists()
        what = f"{source}, {name}" if model else f"{source}, nobody vouches for the model"
        yield Refusal(what, target, expected, code)
