"""Quality receipts (codecs-v1 §10): sums in a stated order, so that everyone finds the same bits."""

import struct

import numpy as np

from ..errors import require

LARGEST = np.finfo(np.float64).max


def check(record):
    """COD-Q-1."""
    numbers = struct.unpack("<4d", record)
    require(np.isfinite(numbers).all(), 905, "receipt")
    require(all(numbers[i] >= 0 for i in (0, 1, 3)), 905, "receipt")


def in_order(values):
    """The sum of the rows of a matrix, one after the other from +0."""
    return np.cumsum(np.vstack([np.zeros((1, values.shape[1])), values]), axis=0)[-1]


def lanes(products):
    """A frame's sum in eight lanes (§10.2)."""
    padded = np.zeros(-(-len(products) // 8) * 8)
    padded[: len(products)] = products
    s = in_order(padded.reshape(-1, 8))
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


def measure(frames, heads, tokens, dim, rotation):
    """32 bytes. `frames` gives (first token, original, decoded) in f32, shaped `[head, token, dim]`;
    `rotation` is None for banks that are not keys."""
    e = x2 = y2 = xy = 0.0
    largest = 0.0
    u1, u2 = np.zeros(heads * dim), np.zeros(heads * dim)
    for first, original, decoded in frames:
        x, y = original.astype("<f8").ravel(), decoded.astype("<f8").ravel()
        difference = x - y
        e += lanes(difference * difference)
        x2 += lanes(x * x)
        y2 += lanes(y * y)
        xy += lanes(x * y)
        largest = max(largest, float(np.abs(difference).max()))
        if rotation is not None:
            u = rotation.back(original, first).astype("<f8").transpose(1, 0, 2).reshape(-1, heads * dim)
            u1 = u1 + in_order(u)
            u2 = u2 + in_order(u * u)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rmse = 0.0 if e == 0 else min(float(np.sqrt(np.float64(e) / x2)), LARGEST)
        root = float(np.sqrt(np.float64(x2) * y2))
        cosine = float(xy) / root if root else float(x2 == y2)
        centred = 0.0
        if rotation is not None and e != 0:
            deviation = np.maximum(u2 - u1 * u1 / tokens, 0)
            d = in_order(deviation[:, None])[0]
            centred = min(float(np.sqrt(np.float64(e) / d)), LARGEST) if d > 0 else rmse
    return struct.pack("<4d", rmse, largest, cosine, centred)
