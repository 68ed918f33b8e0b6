"""A profile for the same model's states in another form."""

import struct

import numpy as np

from trainer.file import KEY, WHOLE

HEADER, ENTRY = 48, 12


def convert(profile, model_id, turn):
    """The profile under another model id. With `turn`, keys that are rotated as two halves (transformers, mlx-lm) become
    keys that are rotated in pairs (2i, 2i + 1), as llama.cpp has them."""
    entries, points = struct.unpack("<HH", profile[10:14])
    out = bytearray(profile)
    out[16:HEADER] = model_id
    at = HEADER + ENTRY * entries + points * (4 + 2 * entries)
    for index in range(entries):
        start = HEADER + ENTRY * index
        _, role, transform, heads, dim, _ = struct.unpack("<IBBHHH", profile[start : start + ENTRY])
        channels = heads * dim
        size = channels * (channels if transform == WHOLE else dim)
        fields = [("<f4", channels, True), ("u1", channels, False), ("i1", size, True), ("<f4", channels, False),
                  ("<i2", size, True)]  # fmt: skip
        for kind, count, by_channel in fields:
            length = np.dtype(kind).itemsize * count
            if turn and role == KEY and by_channel:
                field = np.frombuffer(profile, kind, count, at).reshape(-1, 2, dim // 2)
                out[at : at + length] = np.ascontiguousarray(field.swapaxes(1, 2)).tobytes()
            at += length
    if at != len(profile):
        raise ValueError("no profile of this version")
    return bytes(out)
