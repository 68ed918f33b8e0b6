"""What an encoding costs: the text after a restored state, predicted with it and with the exact state."""

import json
from pathlib import Path

import numpy as np

from live.bench import SUFFIXES
from live.environments import MODEL
from live.kvcap import Kvcap, model_options


def score(worker):
    """For each row: NLL, KL and agreement with the exact state over the continuations of all prompts."""
    job, runtime, kvcap = worker.job, worker.runtime, Kvcap(worker.job["kvcap"])
    folder, prefix = Path(job["folder"]), job["prefix"]
    state, opened = (folder / f"{name}{job['suffix']}" for name in ("state", "opened"))
    capsule = folder / "capsule"
    parts = {name: [] for name in job["rows"]}
    for prompt in json.loads((MODEL / "prompts.json").read_text()).values():
        tokens, rest = prompt[:prefix], prompt[prefix:]
        (folder / "tokens.json").write_text(json.dumps(tokens))
        runtime.clear()
        runtime.logits(tokens)
        runtime.save(state, tokens)
        exact = log_softmax(runtime.predictions(rest[:-1]))
        for name, (seal, open_) in job["rows"].items():
            kvcap("seal", state, "-f", "-o", capsule, "--tokens", folder / "tokens.json", *job["seal"], *seal)
            kvcap("open", capsule, "-f", "-o", opened, *job["open"], *open_)
            runtime.clear()
            runtime.restore(opened)
            parts[name].append(compare(exact, log_softmax(runtime.predictions(rest[:-1])), rest[1:]))
    worker.answer["quality"] = {name: mean(rows) for name, rows in parts.items()}


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def compare(exact, found, targets):
    """Sums over tokens: NLL in nats, KL(exact ‖ found), tokens whose first choice agrees, tokens."""
    return (
        -found[np.arange(len(targets)), targets].sum(),
        (np.exp(exact) * (exact - found)).sum(),
        (exact.argmax(axis=1) == found.argmax(axis=1)).sum(),
        len(targets),
    )


def mean(parts):
    nll, kl, top, tokens = (float(sum(column)) for column in zip(*parts))
    return {"nll": nll / tokens, "kl": kl / tokens, "top1": top / tokens, "tokens": int(tokens)}


def run(bench, rows):
    folder = bench.folder / "quality"
    folder.mkdir()
    model = model_options(bench.environments["base"])
    seal = ["--ttl", "1h", *model, "--sign-key", bench.sign, "--wrap-key", bench.wrap]
    open_ = [*bench.trust, *model, "--wrap-key", bench.wrap]
    job = {"folder": folder, "suffix": SUFFIXES[bench.runtime], "rows": rows, "seal": seal, "open": open_}
    return bench.run("quality", **job)["quality"]
