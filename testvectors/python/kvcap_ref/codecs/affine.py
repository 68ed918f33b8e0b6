"""Affine quantization (codecs-v1 §6), in f32 with each operation rounded on its own."""

import numpy as np

from ..errors import require
from .dtype import BLOCKS, narrow, saturate, widen


def groups(dim, group):
    return -(-dim // group)


def frame_len(rows, dim, dtype, bits, group):
    g = groups(dim, group)
    return rows * (g * group * bits // 8 + 2 * g * BLOCKS[dtype][1])


def unpack(data, rows, count, bits):
    """Codes of a row as one little-endian bit stream (§6.1)."""
    each = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little").reshape(rows, count, bits)
    return (each << np.arange(bits, dtype="u1")).sum(axis=2, dtype="u1")


def pack(codes, bits):
    each = codes.astype("u1")[..., None] >> np.arange(bits, dtype="u1") & 1
    return np.packbits(each.reshape(-1), bitorder="little").tobytes()


def decode(frame, rows, dim, dtype, bits, group):
    require(len(frame) == frame_len(rows, dim, dtype, bits, group), 903, "frame length")
    g = groups(dim, group)
    split = rows * g * group * bits // 8
    codes = unpack(frame[:split], rows, g * group, bits)
    require(not codes[:, dim:].any(), 902, "codes after the last element")
    parameters = widen(frame[split:], dtype).reshape(2, rows, g, 1)
    require(np.isfinite(parameters).all(), 905, "scale or bias")
    scales, biases = parameters
    with np.errstate(over="ignore"):
        values = codes.reshape(rows, g, group).astype("<f4") * scales
        values = values + biases
    return saturate(values.reshape(rows, g * group)[:, :dim], dtype)


def encode(plain, rows, dim, dtype, bits, group):
    """Profile affine-1 (§6.4)."""
    x = widen(plain, dtype).reshape(rows, dim)
    require(np.isfinite(x).all(), 905, "element")
    g, top = groups(dim, group), np.float32(2**bits - 1)
    inside = np.arange(g * group) < dim
    padded = np.zeros((rows, g * group), "<f4")
    padded[:, :dim] = x
    x = padded.reshape(rows, g, group)
    inside = inside.reshape(1, g, group)
    lo = np.where(inside, x, np.float32(np.inf)).min(axis=2)
    hi = np.where(inside, x, np.float32(-np.inf)).max(axis=2)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        span = hi - lo
        require(np.isfinite(span).all(), 905, "range of a group")
        step = np.maximum(span / top, np.float32(1e-7))
        low_edge = np.abs(lo) > np.abs(hi)
        edge = np.where(low_edge, lo, hi)
        step = np.where(low_edge, step, -step)
        k = np.rint(edge / step)
        scale = np.where(k == 0, step, edge / np.where(k == 0, np.float32(1), k))
        bias = np.where(k == 0, np.float32(0), edge)
        same = lo == hi
        scale = np.where(same, np.float32(1), scale).astype("<f4")
        bias = np.where(same, hi + np.float32(0), bias).astype("<f4")
        stored_scale, stored_bias = narrow(scale, dtype), narrow(bias, dtype)
        scale = widen(stored_scale, dtype).reshape(rows, g, 1)
        q = np.rint(np.minimum(np.maximum((x - bias[..., None]) / scale, 0), top))
    q = np.where(inside & ~same[..., None], q, 0).reshape(rows, g * group)
    return pack(q, bits) + stored_scale + stored_bias
