"""Other methods in short, for comparison in the same run. Each takes a cache (keys rotated) and gives it back
with the bits a value that it needs, all counted; none goes through a capsule."""

from math import erf

import numpy as np

ANCHORS = 10  # CacheGen: tokens for each anchor
GROUP = 32  # KIVI: tokens or elements that share a scale


def affine(rows, bits, axis):
    """Rounded to 2^bits levels between the extremes along an axis; scale and zero of f16."""
    low = rows.min(axis=axis, keepdims=True).astype(np.float16).astype(np.float32)
    step = (rows.max(axis=axis, keepdims=True) - low) / (2**bits - 1)
    step = np.maximum(step.astype(np.float16).astype(np.float32), 2.0**-24)
    return np.clip(np.rint((rows - low) / step), 0, 2**bits - 1) * step + low


def kivi(cache, bits):
    """KIVI: rotated keys by channel over 32 tokens, values by token over 32 elements (no window of f16)."""
    keys, values = (bank.astype(np.float32) for bank in cache)
    layers, heads, tokens, dim = keys.shape
    out = np.concatenate([affine(keys[:, :, at : at + GROUP], bits, 2) for at in range(0, tokens, GROUP)], axis=2)
    grouped = values.reshape(layers, heads, tokens, -1, GROUP)
    return (out, affine(grouped, bits, -1).reshape(values.shape)), bits + 32 / GROUP


LEVELS = {  # Lloyd-Max of the normal distribution
    2: [0.4528, 1.510],
    3: [0.2451, 0.7560, 1.344, 2.152],
    4: [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733],
}


def hadamard(size):
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(size, dtype=np.float32)


def turboquant(cache, bits):
    """TurboQuant: rows of norm 1 turned by a random Hadamard matrix, each element by the normal distribution's levels."""
    dim = cache[0].shape[-1]
    signs = np.random.default_rng(7).choice([-1.0, 1.0], dim).astype(np.float32)
    turn = hadamard(dim) * signs
    levels = np.array([-level for level in LEVELS[bits][::-1]] + LEVELS[bits], np.float32)
    edges = (levels[1:] + levels[:-1]) / 2

    def coded(rows):
        rows = rows.astype(np.float32)
        norm = np.linalg.norm(rows, axis=-1, keepdims=True).astype(np.float16).astype(np.float32)
        turned = rows / np.maximum(norm, 1e-6) @ turn.T * np.sqrt(dim, dtype=np.float32)
        return levels[np.searchsorted(edges, turned)] @ turn / np.sqrt(dim, dtype=np.float32) * norm

    return tuple(coded(bank) for bank in cache), bits + 16 / dim


def tables():
    """-log2 of 40 widths of a normal and a Laplace distribution over -127 to 127, an escape of 2^-10 set aside."""
    edges = np.arange(-127, 129) - 0.5
    found = []
    for width in 0.08 * 2 ** (np.arange(40) / 4):
        normal = np.array([0.5 * (1 + erf(edge / width / 2**0.5)) for edge in edges])
        decay = np.exp(-np.abs(edges) / (width / 2**0.5)) / 2
        laplace = np.where(edges < 0, decay, 1 - decay)
        for distribution in (normal, laplace):
            chances = np.maximum(np.diff(distribution), 2.0**-13)
            found.append(-np.log2(chances / chances.sum() * (1 - 2.0**-10)))
    return np.array(found)


TABLES = tables()
LANES = 0.02  # bits a value, for the coder's states


def entropy(codes):
    """Bits of a static entropy coder for columns of codes, each with the best table and a byte that names it."""
    escaped = np.abs(codes) > 127
    total = 8 * codes.shape[1] + escaped.sum() * (10 + 16)
    for column, out in zip(codes.T, escaped.T):
        seen = np.bincount(column[~out] + 127, minlength=255)
        total += (TABLES @ seen).min()
    return total


def by_layer(cache, code):
    """`code(rows, kind)` for each layer's rows, `[tokens, heads · dim]`: what comes back, and bits a value."""
    out, bits = tuple(np.empty(bank.shape, np.float32) for bank in cache), 0.0
    for kind, (bank, back) in enumerate(zip(cache, out)):
        for layer, rows in enumerate(bank):
            flat = rows.swapaxes(0, 1).reshape(rows.shape[1], -1).astype(np.float32)
            found, used = code(flat, (kind, layer))
            back[layer] = found.reshape(rows.shape[1], rows.shape[0], -1).swapaxes(0, 1)
            bits += used
    return out, bits / sum(bank.size for bank in cache) + LANES


def cachegen(cache, step):
    """CacheGen: the difference to an anchor every 10 tokens, in steps of `step` deviations, entropy-coded by channel."""

    def code(rows, _):
        size = step * rows[4:].std(axis=0).mean()
        anchors = np.rint(rows[::ANCHORS] / (size / 4)).astype(int)
        near = np.repeat(anchors * (size / 4), ANCHORS, axis=0)[: len(rows)]
        difference = np.rint((rows - near) / size).astype(int)
        others = np.arange(len(rows)) % ANCHORS != 0
        back = np.where(others[:, None], near + difference * size, near)
        return back, entropy(anchors) + entropy(difference[others])

    return by_layer(cache, code)


def kvtc(cache, model, step, bases):
    """KVTC: un-rotated keys and values in the principal components of a layer's calibration, entropy-coded; the
    first 4 tokens exact."""
    tokens = np.arange(cache[0].shape[2])
    keys = model.rotate(cache[0].astype(np.float32), tokens, back=True)

    def code(rows, place):
        mean, basis, size = bases[place]
        parts = (rows - mean) @ basis
        codes = np.rint(parts / (step * size)).astype(int)
        back = codes * (step * size) @ basis.T + mean
        back[:4] = rows[:4]
        return back, entropy(codes[4:]) + 4 * 16 * rows.shape[1]

    (keys, values), bits = by_layer((keys, cache[1]), code)
    return (model.rotate(keys, tokens), values), bits


def bases(caches, model):
    """For each bank the mean, principal components and deviation of caches of calibration."""
    found = {}
    for kind in (0, 1):
        for layer in range(len(model.layers)):
            parts = []
            for cache in caches:
                rows = cache[kind][layer].astype(np.float32)
                rows = model.rotate(rows, np.arange(rows.shape[1]), back=True) if kind == 0 else rows
                parts.append(rows[:, 4:].swapaxes(0, 1).reshape(rows.shape[1] - 4, -1))
            rows = np.concatenate(parts).astype(np.float64)
            mean = rows.mean(axis=0)
            spread, basis = np.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
            found[kind, layer] = mean.astype(np.float32), basis.astype(np.float32), float(np.sqrt(spread.mean()))
    return found
