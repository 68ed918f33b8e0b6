"""The state file of an opened capsule or chain, without the model (runtimes-v1 §8)."""

import struct

from .. import manifest
from ..codecs.dtype import BLOCK_TOKENS
from ..errors import require
from ..open import receipts
from . import hugging_face, llama_cpp, mlx_lm
from .found import Found, check, rows_of
from .residue import Residue

ADAPTERS = {
    "mlx-lm": mlx_lm.parse,
    "llama.cpp": llama_cpp.parse,
    "transformers": hugging_face.parse,
    "raw": hugging_face.parse_raw,
}


def by_position(bank):
    return bank.rows[0] == 0 and bank.window == 0


def whole_banks(members):
    """(bank of the whole state, the members' streams that hold its rows) in the order of the tip."""
    tip = members[-1]
    for stream, bank in enumerate(tip.manifest.streams):
        if not isinstance(bank, manifest.Bank):
            continue
        parts = [(tip, stream)]
        if by_position(bank):
            parts = [(m, i) for m in members for i, b in enumerate(m.manifest.streams) if same(b, bank)]
        first = parts[0][0].manifest.streams[parts[0][1]]
        shape = list(bank.shape)
        if shape[0] == 0:
            shape[2] = sum(m.manifest.streams[i].shape[2] for m, i in parts)
        held = rows(tip, first)
        yield Found(bank.role, bank.layer, bank.dtype, shape, held, bank.window, (), bank.index, first.hadamard), parts


def same(stream, bank):
    identity = lambda b: (b.role, b.layer, b.index)
    return isinstance(stream, manifest.Bank) and identity(stream) == identity(bank)


def rows(tip, bank):
    if bank.rows[0] == 2:
        return None
    if bank.rows[0] == 0:
        return "from", bank.rows[1]
    return "listed", struct.unpack(f"<{bank.shape[2]}q", tip.encoded(bank.rows[1]))


def put(out, bank, first, plain):
    """Rows from `first` on, in the order of frames, to their places (§1.2)."""
    if bank.shape[0] == 1:
        (part,) = bank.parts
        out[part.start : part.end] = plain
        return
    _, heads, _, dim = bank.shape
    sizes = rows_of(bank.dtype, dim)
    tokens = len(plain) // (heads * sum(sizes))
    at = 0
    for start in range(0, tokens, BLOCK_TOKENS):
        block = range(first + start, first + min(start + BLOCK_TOKENS, tokens))
        for part, row in zip(bank.parts, sizes):
            for head in range(heads):
                for token in block:
                    place = part.start + head * part.by_head + token * part.by_token
                    if part.by_dim:
                        for d in range(dim):
                            element = plain[at + d * part.row : at + (d + 1) * part.row]
                            out[place + d * part.by_dim : place + d * part.by_dim + part.row] = element
                    else:
                        out[place : place + row] = plain[at : at + row]
                    at += row


def restore(members):
    """The file; `members` are opened capsules from the root to the tip."""
    tip = members[-1]
    residue = tip.section(manifest.RESIDUE)
    require(residue is not None, 922, "the capsule has no residue")
    for member in members:
        receipts(member)
    file = Residue(residue)
    whole = list(whole_banks(members))
    adapter = ADAPTERS.get(tip.manifest.context[4][1])
    require(adapter, 922, f"runtime {tip.manifest.context[4][1]!r}")
    stated = [bank for bank, _ in whole]
    file.room([sum(m.manifest.streams[i].plain_len for m, i in parts) for _, parts in whole])
    found = list(adapter(file, stated))
    places = check(found, file.length)
    require(found == stated, 923, "the residue describes other banks")
    require(joined(places) == file.holes(), 923, "the holes are not the regions")
    out = bytearray(file.length)
    for start, data in file.segments:
        out[start : start + len(data)] = data
    for bank, (_, parts) in zip(found, whole):
        first = 0
        for member, stream in parts:
            put(out, bank, first, member.plain(stream))
            held = member.manifest.streams[stream].shape
            first += held[2] if held[0] == 0 else 0
    return bytes(out)


def joined(places):
    """Regions that touch make one hole."""
    holes = []
    for start, end in places:
        if holes and holes[-1][1] == start:
            holes[-1] = holes[-1][0], end
        else:
            holes.append((start, end))
    return holes
