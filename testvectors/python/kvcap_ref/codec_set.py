"""Runs the codec vectors (testvectors/codec/README.md)."""

import gzip
import hashlib
import json
import struct
from dataclasses import replace

import numpy as np

from . import codecs, operations
from .codecs import dtype
from .errors import Refusal
from .manifest import Bank


def halves(first, step, count, below):
    patterns = (first + np.arange(count, dtype="<u8") * step).astype("<u2")
    return patterns[patterns & 0x7FFF < below].tobytes()


def content(stated):
    """The bytes, or None where only a digest is stated."""
    ((form, value),) = stated.items()
    match form:
        case "hex":
            return bytes.fromhex(value)
        case "halves":
            return halves(**value)
        case "repeat":
            return content(value[0]) * value[1]
        case "concat":
            return b"".join(content(part) for part in value)
        case "digest":
            return None
    raise ValueError(form)


def same(stated, found):
    if "digest" in stated:
        return stated["digest"] == [len(found), hashlib.sha256(found).hexdigest()]
    return content(stated) == found


def bank_of(vector):
    shape, rotation = vector["shape"], vector["rotation"]
    kind = vector["dtype"] if len(vector["dtype"]) > 1 else vector["dtype"][0]
    role = codecs.KEY if rotation else codecs.VALUE
    rows = [0, 0] if shape[0] == 0 else [2]
    table = 0 if rotation else None
    return Bank(role, 0, 0, kind, shape, rows, 0, vector["codec"], dtype.plain_len(kind, shape), 4096, table)


def fitted(vector, bank):
    """What the vector's profile knows of its bank, which there is of layer 0 and role 1."""
    if not vector.get("profile"):
        return None
    known = codecs.profile.parse(content(vector["profile"]))
    return known.fitted(replace(bank, role=codecs.VALUE))


def turned(vector):
    """(positions, rotation table) as `codecs` takes them."""
    rotation = vector["rotation"]
    if rotation is None:
        return (), None
    frequencies = b"".join(bytes.fromhex(bits)[::-1] for bits in rotation["frequencies"])
    positions = rotation["listed"]
    if positions is None:
        tokens = vector["shape"][2]
        positions = range(rotation["start"], rotation["start"] + tokens)
    return positions, [rotation["pairing"], struct.pack("<d", 1.0), frequencies]


def problem(vector):
    """What differs from the vector, or None."""
    bank, context = bank_of(vector), turned(vector)
    try:
        encoded = content(vector["encoded"]) if vector["encoded"] else None
        if vector["plain"] and not vector["free"]:
            encoded, receipt = codecs.encode(bank, content(vector["plain"]), context)
            if vector["code"] == 0 and not same(vector["encoded"], encoded):
                return "encoded bytes differ"
            if vector["receipt"] and receipt.hex() != vector["receipt"]:
                return "receipt differs"
        decoded = codecs.decode(bank, encoded, context, fitted(vector, bank))
    except Refusal as refusal:
        return None if refusal.code == vector["code"] else f"code {refusal.code}, {vector['code']} expected"
    if vector["code"]:
        return f"accepted, {vector['code']} expected"
    return None if same(vector["decoded"] or vector["plain"], decoded) else "decoded bytes differ"


def run(path):
    return operations.report(json.loads(gzip.decompress(path.read_bytes())), problem, "codec vectors")
