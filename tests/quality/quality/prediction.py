"""Whether prediction from other layers would pay: python -m quality.prediction KVCAP

Rows of each bank are predicted, linearly, from keys and values of the layer before, and values from their own keys too, as
`tc:3.0` gives those back. Bits are those of Gaussian components of rows (or of what the prediction leaves) with the step
that takes 3 bits a value without prediction. Predictors and components are of the calibration texts, bits of held-out ones."""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.model import Model, tokenizer
from trainer.train import STORED, plain_rows

from quality.driver import CACHE, model_folder
from quality.states import Program
from quality.texts import CALIBRATION, HELD_OUT, WEIGHTS

CONTEXT, BITS, EVERY = 1024, 3.0, 3
KEY, VALUE = 0, 1


def caches(model, program, texts):
    """Of each text the cache, and what `tc` makes of it."""
    read = tokenizer(model.fields)
    for text in texts:
        ids = replace(text, context=CONTEXT, held_out=0).ids(read)
        _, cache = model.forward(ids, logits=False)
        yield cache, program.through(cache, ["--encoding", f"tc:{BITS}"])[0]


def rows(model, found, layer, role):
    return np.concatenate([plain_rows(model, cache, layer, role)[STORED:] for cache in found])


def bits(variances, step):
    """Of Gaussian components in this variance of error, in the mean."""
    return np.maximum(np.log2(np.maximum(variances, 1e-30) / step) / 2, 0).mean()


def components(fitted, tested):
    """Variances of the held-out rows along the principal components of the others."""
    _, axes = np.linalg.eigh(fitted.T @ fitted)
    return ((tested @ axes) ** 2).mean(axis=0)


def saved(model, calibration, held_out, layer, role):
    """Bits a value that the prediction saves in a bank."""
    exact, given = ([text[at] for text in calibration] for at in (0, 1))
    exact_of, given_of = ([text[at] for text in held_out] for at in (0, 1))
    own, own_of = rows(model, exact, layer, role), rows(model, exact_of, layer, role)
    mean = own.mean(axis=0)
    own, own_of = own - mean, own_of - mean
    plain = components(own, own_of)
    low, high = 1e-12, plain.max()
    for _ in range(60):
        step = (low * high) ** 0.5
        low, high = (step, high) if bits(plain, step) > BITS else (low, step)

    sources = [(layer - 1, KEY), (layer - 1, VALUE)] + [(layer, KEY)] * (role == VALUE)
    seen = np.concatenate([rows(model, given, *source) for source in sources], axis=1)
    seen_of = np.concatenate([rows(model, given_of, *source) for source in sources], axis=1)
    middle = seen.mean(axis=0)
    seen, seen_of = seen - middle, seen_of - middle
    square = seen.T @ seen
    ridge = np.eye(len(square)) * (1e-3 * np.trace(square) / len(square))
    weights = np.linalg.solve(square + ridge, seen.T @ own)
    return BITS - bits(components(own - seen @ weights, own_of - seen_of @ weights), step)


def main():
    options = argparse.ArgumentParser(prog="python -m quality.prediction")
    options.add_argument("kvcap", type=Path)
    options = options.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    model = Model(WEIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        program = Program(options.kvcap, Path(folder), model_folder(model))
        calibration = list(caches(model, program, CALIBRATION))
        held_out = list(caches(model, program, HELD_OUT[::2]))
    gains = np.zeros((len(model.layers), 2))
    for layer in range(1, len(model.layers)):
        gains[layer] = [saved(model, calibration, held_out, layer, role) for role in (KEY, VALUE)]
    keys, values = gains[1:].mean(axis=0)
    restarted = gains[np.arange(len(gains)) % EVERY != 0].sum() / gains.size
    print(f"saved of {BITS} bits in layers after the first: keys {keys:.2f}, values {values:.2f}")
    print(f"with a restart every {EVERY} layers: {restarted:.2f} in the mean of all banks")


if __name__ == "__main__":
    main()
