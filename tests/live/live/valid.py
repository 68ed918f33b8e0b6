"""Checkpoint, kill, restore, continue: capsules that must restore."""

from dataclasses import dataclass

from live.bench import agreement
from live.kvcap import Refused

#: row: options of `kvcap seal`, options of `kvcap open`
ROWS = {
    "exact": ((), ()),
    "exact, compressed": (("--compress",), ()),
    "q8": (("--encoding", "q8"), ()),
    "k8v4": (("--encoding", "k8v4"), ()),
    "q4": (("--encoding", "q4"), ()),
    "q4c": (("--encoding", "q4c"), ()),
    "tc:3.0": (("--encoding", "tc:3.0"), ()),
}
#: opened as mlx-lm's own quantized cache
OWN = {
    "q8, quantized cache": (("--encoding", "q8"), ("--kv-type", "q8_g64")),
    "q4, quantized cache": (("--encoding", "q4"), ("--kv-type", "q4_g64")),
}
#: caches that a runtime quantizes itself; sealed bit for bit
OWN_CACHES = {"mlx-lm": ("q8", "q4"), "llama.cpp": ("q8_0", "q4_0")}


def rows(runtime):
    return ROWS | (OWN if runtime == "mlx-lm" else {})


@dataclass
class Cycle:
    """One restore, compared and timed (seconds)."""

    row: str
    #: tokens that equal the live run's from the first on, and the largest difference of logits
    stable: int
    difference: float
    #: tokens that the capsule claims, and that the runtime did not evaluate again
    claimed: int
    reused: int
    state_bytes: int
    capsule_bytes: int
    bank_bytes: int
    checkpoint: float
    validate: float
    restore: float


def baseline(bench):
    """A live run and a cold one without any capsule, and the state that the live one saved."""
    state = bench.state("baseline")
    process, live = bench.live(state=state)
    bench.kill(process)
    return state, live, bench.run("cold")


def cycles(bench, live, names, number):
    """Saves, seals under each name, kills, and restores each capsule in a fresh process."""
    state = bench.state(f"cycle{number}")
    process, again = bench.live(state=state)
    sealed = {}
    for at, name in enumerate(names):
        capsule = bench.folder / f"cycle{number}.{at}.kvcap"
        sealed[name] = capsule, bench.seal(state, capsule, *rows(bench.runtime)[name][0])
    bench.kill(process)
    state.unlink()
    if agreement(again, live) != (len(live["tokens"]), 0.0):
        raise RuntimeError("the runtime itself is not deterministic")
    found = []
    for name in names:
        options = rows(bench.runtime)[name][1]
        found.append(restored(bench, name, *sealed[name], live, again["save_s"], options=options))
    return found


def other_states(bench):
    """One cycle of the runtime's own quantized caches, and of each model whose layers slide or recur."""
    base = bench.environments["base"]
    caches = OWN_CACHES.get(bench.runtime, ())
    environments = {f"own {cache} cache": base | {"cache": cache} for cache in caches}
    if bench.runtime != "llama.cpp":
        from live import kinds

        environments |= kinds.make(bench.runtime, bench.folder)
    for name, environment in environments.items():
        bench.environments[name] = environment
        state, capsule = bench.state(name), bench.folder / f"{name}.kvcap"
        process, live = bench.live(name, state=state)
        report = bench.seal(state, capsule, environment=name)
        bench.kill(process)
        state.unlink()
        yield restored(bench, f"exact, {name}", capsule, report, live, live["save_s"], name)


def restored(bench, row, capsule, report, live, save, environment="base", options=()):
    validated = bench.verify(capsule, environment)
    answer = bench.resume(capsule, environment, options=options)
    if answer["codes"]:
        raise RuntimeError(f"{bench.runtime}, {row}: {answer['message']}")
    receipt = bench.receipt(capsule, answer, environment)
    stable, difference = agreement(answer, live)
    return Cycle(
        row=row,
        stable=stable,
        difference=difference,
        claimed=receipt["claimed"],
        reused=receipt["reused"],
        state_bytes=report["state_bytes"],
        capsule_bytes=report["file_bytes"],
        bank_bytes=bench.kvcap("inspect", capsule)["unverified"]["banks_total"]["encoded_bytes"],
        checkpoint=save + report["wall"],
        validate=validated["wall"],
        restore=answer["open_s"] + answer["materialize_s"],
    )


def ineffective(bench, capsule, cold):
    """A runtime that says it has restored, and evaluates everything again: the receipt's code."""
    answer = bench.resume(capsule, drop=True)
    assert answer["codes"] == [] and answer["held"] == 0
    try:
        bench.receipt(capsule, answer)
    except Refused as refused:
        return refused.code, answer["tokens"] == cold["tokens"]
    return 0, answer["tokens"] == cold["tokens"]
