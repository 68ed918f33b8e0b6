"""The profile's file (codecs-v1)."""

import struct

import numpy as np

MAGIC, VERSION = b"KVTCPROF", 1
KEY, VALUE = 0, 1
PER_HEAD, WHOLE = 1, 2


def write(path, model_id, banks, shape, points, neighbours):
    """`banks` by (layer, role), each `[heads, dim]` of `shape`; `points` are (KL, the rate of each bank in 1/64 bit), the
    coarsest first. `neighbours` is for states whose keys are rotated in pairs (2i, 2i + 1), as llama.cpp's are."""
    heads, dim = shape
    parts = [MAGIC, struct.pack("<HHHH", VERSION, len(banks), len(points), 0), model_id]
    for (layer, role), bank in banks.items():
        transform = WHOLE if len(bank.weights) == 1 else PER_HEAD
        parts.append(struct.pack("<IBBHHH", layer, role, transform, heads, dim, 0))
    for promised, each in points:
        parts.append(struct.pack(f"<I{len(each)}H", round(promised * 1e9), *each))
    for (_, role), bank in banks.items():
        of_head = np.arange(dim)
        if neighbours and role == KEY:
            of_head = of_head.reshape(2, -1).T.reshape(-1)
        blocks, _, size = bank.weights.shape
        order = lambda matrix: matrix.reshape(-1, size // dim, dim)[..., of_head]
        parts += [
            order(bank.mean.reshape(blocks, 1, size)).astype("<f4").tobytes(),
            bank.shifts.astype("u1").tobytes(),
            order(bank.weights).astype("i1").tobytes(),
            bank.scale.astype("<f4").tobytes(),
            order(bank.analysis).astype("<i2").tobytes(),
        ]
    path.write_bytes(b"".join(parts))
