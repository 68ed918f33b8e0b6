"""How many bits a frame's coefficients take: an estimate of what an encoder of tc writes (codecs-v1 §12)."""

from math import erf

import numpy as np

BASES, TABLES, WIDEST = 24, 60, 1 << 14
FRAME = 256
LEAST, MOST = 16, 1024  # rates in 1/64 bit


def costs():
    """Bits of |q| under each table: Gaussians of 0.16 · 2^(base / 4) steps, a tenth of it at 1.5 times the width."""
    edges = np.arange(-0.5, WIDEST + 1)
    found = []
    for number in range(TABLES):
        base, low = (number, 0) if number < BASES else (20 + number % 4, (number - 20) // 4)
        width = 0.16 * 2 ** (base / 4)
        below = lambda sigma: np.array([erf(edge / sigma / 2**0.5) / 2 for edge in edges[:70]])
        chances = np.diff(0.9 * below(width) + 0.1 * below(1.5 * width))
        escape = 1 / 4096
        known = -np.log2(np.where(chances > 0.4 / 4096, np.maximum(chances, escape), 0), where=chances > 0.4 / 4096,
                         out=np.full(len(chances), 12.0 + 16))  # fmt: skip
        symbol = (np.arange(WIDEST) + (1 << low) // 2) >> low
        bits = np.where(symbol < len(known), known[np.minimum(symbol, len(known) - 1)] + low, 28 + low)
        found.append(bits)
    return np.array(found, np.float32)


COSTS = costs()


def column_bits(q):
    """Bits of whole coefficients `[tokens, channels]`, each channel by its best table."""
    size = np.minimum(np.abs(q), WIDEST - 1).astype(np.int64)
    spread = np.sqrt((q.astype(np.float64) ** 2).mean(axis=0))
    near = np.rint(4 * np.log2(np.maximum(spread, 0.05) / 0.16)).astype(int)
    best = np.full(q.shape[1], np.inf)
    for number in (near - 2, near - 1, near, near + 1):
        number = number.clip(0, TABLES - 1)
        best = np.minimum(best, COSTS[number, size].sum(axis=0))
    return best.sum()


def quantized(z, step):
    """Coefficients and offsets in eighths of a step."""
    offsets = np.rint(z.mean(axis=0) * 8 / step)
    q = np.rint((z * 8 / step - offsets) / 8)
    # errors that all tokens share cost most: attention does not average them out
    return q, np.rint((z * 8 / step - 8 * q).mean(axis=0))


def frame_bits(z, step):
    """All that a frame of coded rows takes."""
    q, offsets = quantized(z, step)
    width = np.ceil(np.log2(np.abs(offsets).max() + 1)) + 1
    return 8 * (8 + 128) + z.shape[1] * (6 + width) + column_bits(q)
