"""Bits by layer: a fixed-rate codec for each bank, as its errors cost the text after it.

The KL that a codec costs in a bank is estimated on calibration texts: ½ Σ (g · δ)² over rows, where δ is what the codec does
to a row and g the gradient of the log probability of tokens drawn from the model's own predictions (trainer/fisher.py).
Banks then take the codecs with which the sum is least at so many bits."""

from dataclasses import replace

import numpy as np

from trainer import fisher
from trainer.model import log_softmax

CONTEXT, ASKING, DRAWS = 1024, 256, 3
KINDS = ("keys", "values")
# codecs of each kind, and their bits a value
BITS = {
    "keys": {"q3": 3.5, "q3_g32": 4.0, "q4c": 4.5, "q4_g32": 5.0, "q5": 5.5, "q5_g32": 6.0, "q6": 6.5, "q8": 8.5},
    "values": {"q3": 3.5, "q3_g32": 4.0, "q4": 4.5, "q4_g32": 5.0, "q5": 5.5, "q5_g32": 6.0, "q6": 6.5, "q8": 8.5},
}


def decoded(program, cache):
    """The cache as each codec gives it back, each through a capsule: `{(kind, codec): bank of all layers}`."""
    found = {}
    for keys, values in zip(BITS["keys"], BITS["values"]):
        back, _ = program.through(cache, ["--keys", keys, "--values", values])
        found |= {("keys", keys): back[0], ("values", values): back[1]}
    return found


def costs(model, program, ids, random):
    """KL that each codec costs in each bank on a text: `{(kind, layer): {codec: KL}}`."""
    _, cache = model.forward(ids[:CONTEXT], logits=False)
    errors = {}
    for (kind, codec), back in decoded(program, cache).items():
        error = back.astype(np.float32) - cache[KINDS.index(kind)].astype(np.float32)
        errors[kind, codec] = model.rotate(error, np.arange(CONTEXT), back=True) if kind == "keys" else error
    found = {(kind, layer): dict.fromkeys(BITS[kind], 0.0) for kind in KINDS for layer in range(len(model.layers))}
    logits, passed = fisher.forward(model, cache, ids[CONTEXT:])
    chances = np.exp(log_softmax(logits))
    for _ in range(DRAWS):
        drawn = (chances.cumsum(axis=1) < random.random((ASKING, 1))).sum(axis=1).clip(0, chances.shape[1] - 1)
        slope = -chances
        slope[np.arange(ASKING), drawn] += 1
        for layer, *slopes in fisher.backward(model, passed, slope, CONTEXT):
            for kind, rows in zip(KINDS, slopes):
                for codec in BITS[kind]:
                    seen = (rows * errors[kind, codec][layer]).sum(axis=(0, 2), dtype=np.float64)
                    found[kind, layer][codec] += (seen**2).sum() / (2 * ASKING * DRAWS)
    return found


def measured(model, program, texts, read, say):
    """The mean of texts."""
    random, total = np.random.default_rng(1), {}
    for text in texts:
        own = costs(model, program, replace(text, context=CONTEXT, held_out=ASKING).ids(read), random)
        for bank, codecs in own.items():
            kept = total.setdefault(bank, dict.fromkeys(codecs, 0.0))
            for codec, cost in codecs.items():
                kept[codec] += cost / len(texts)
        say(f"quality: what codecs cost in banks: {text.name}")
    return total


def chosen(costs, bits):
    """The codec of each bank with which costs are least at `bits` a value in the mean: from the shortest on, what gains most for
    a bit."""
    taken = {bank: min(BITS[bank[0]], key=BITS[bank[0]].get) for bank in costs}
    left = bits * len(costs) - sum(BITS[kind][codec] for (kind, _), codec in taken.items())
    while True:
        steps = []
        for bank, codec in taken.items():
            own = BITS[bank[0]]
            for other, more in own.items():
                dearer = more - own[codec]
                if 0 < dearer <= left:
                    steps.append(((costs[bank][codec] - costs[bank][other]) / dearer, bank, other, dearer))
        gain, bank, codec, dearer = max(steps, default=(0, None, None, 0))
        if gain <= 0:
            return taken
        taken[bank], left = codec, left - dearer


def through(program, cache, taken):
    """A cache whose banks went through these codecs, and its bits a value; headers are not counted."""
    back = decoded(program, cache)
    banks = [
        np.stack([back[kind, taken[kind, layer]][layer] for layer in range(len(own))])
        for kind, own in zip(KINDS, cache)
    ]
    return tuple(banks), sum(BITS[kind][codec] for (kind, _), codec in taken.items()) / len(taken)
