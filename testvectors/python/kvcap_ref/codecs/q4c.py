"""q4c: keys quantized channel by channel, un-rotated (codecs-v1 §7)."""

import numpy as np

from ..errors import require
from .affine import pack, unpack
from .dtype import F16, narrow, saturate, widen

GROUP = 64


def frame_len(heads, tokens, dim):
    return heads * (tokens * -(-dim // 2) + 4 * -(-tokens // GROUP) * dim)


def decode(frame, heads, tokens, dim, dtype, rotation, first):
    require(len(frame) == frame_len(heads, tokens, dim), 903, "frame length")
    width, g = -(-dim // 2), -(-tokens // GROUP)
    split = heads * tokens * width
    codes = unpack(frame[:split], heads * tokens, 2 * width, 4).reshape(heads, tokens, 2 * width)
    require(not codes[..., dim:].any(), 902, "upper bits of an odd row")
    parameters = widen(frame[split:], F16).reshape(2, heads, g, dim)
    require(np.isfinite(parameters).all(), 905, "scale or bias")
    scales, biases = (np.repeat(p, GROUP, axis=1)[:, :tokens] for p in parameters)
    values = codes[..., :dim].astype("<f4") * scales
    values = values + biases
    return saturate(rotation.forth(values, first), dtype)


def encode(plain, heads, tokens, dim, dtype, rotation, first):
    """Profile q4c-1 (§7.4)."""
    x = rotation.back(widen(plain, dtype).reshape(heads, tokens, dim), first)
    require(np.isfinite(x).all(), 905, "element")
    g = -(-tokens // GROUP)
    codes = np.zeros((heads, tokens, 2 * -(-dim // 2)), "<f4")
    scales, biases = np.zeros((2, heads, g, dim), "<f4")
    with np.errstate(over="ignore"):
        for i in range(g):
            part = slice(GROUP * i, min(GROUP * (i + 1), tokens))
            lo, hi = x[:, part].min(axis=1), x[:, part].max(axis=1)
            bias = (lo + np.float32(0)).astype("<f2").astype("<f4")
            scale = np.maximum((hi - bias) / np.float32(15), np.float32(2.0**-24)).astype("<f2").astype("<f4")
            require(np.isfinite(bias).all() and np.isfinite(scale).all(), 905, "scale or bias")
            q = (x[:, part] - bias[:, None]) / scale[:, None]
            codes[:, part, :dim] = np.rint(np.minimum(np.maximum(q, 0), 15))
            scales[:, i], biases[:, i] = scale, bias
    return pack(codes, 4) + narrow(scales, F16) + narrow(biases, F16)
