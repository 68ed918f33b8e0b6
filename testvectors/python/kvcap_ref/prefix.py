"""The prefix chain and its commitment (capsule-v1 §6.5)."""

import hmac
import struct

from .errors import require
from .schedule import b3, kb3, u64

BLOCK = 256


def prefix_value(tokens):
    """P of a list of token ids."""
    chain = bytes(32)
    for start in range(0, len(tokens), BLOCK):
        ids = tokens[start : start + BLOCK]
        chain = b3("kvcap v1 prefix block", chain + struct.pack(f"<{len(ids)}I", *ids))
    return b3("kvcap v1 prefix", chain + u64(len(tokens)))


def prefix_key(wrapping_key):
    return b3("kvcap v1 prefix key", wrapping_key)


def prefix_key_id(key):
    return b3("kvcap v1 prefix key id", key, 16)


def commit(key, value):
    """The commitment of scheme 1."""
    return kb3(key, value)


def check(stated, key, value):
    """Whether `stated`, the prefix of a manifest, commits to P (KVC-605). Under another prefix key than
    the stated one nobody can tell, which does not pass for a yes."""
    if stated[1] == 1:
        require(prefix_key_id(key) == stated[2], 605, "another prefix key")
        value = commit(key, value)
    require(stated[1] != 0 and hmac.compare_digest(value, stated[3]), 605)
