"""Lineage (lineage-v1 §2): a capsule verified and opened together with those that it continues."""

import struct
from dataclasses import replace

from . import manifest, prefix
from . import open as opening
from .errors import Refusal, require
from .verify import verify_header

MAX_MEMBERS = 64
# What an expectation of the tip alone is not compared with.
OF_TIP = {"positions": None, "prefix": None, "banks": (), "cti": None, "session": None}


def by_position(bank):
    return bank.rows[0] == 0 and bank.window == 0


def banks_of(m):
    return {(b.role, b.layer, b.index): b for b in m.streams if isinstance(b, manifest.Bank)}


def plain_len(m):
    return sum(s.plain_len for s in m.streams)


def check_same(parent, child):
    """LIN-L-6."""
    for key, fields in ((2, (1,)), (3, (1, 2, 4, 5, 6)), (4, (1, 3, 4))):
        for k in fields:
            require(parent[key].get(k) == child[key].get(k), 704, f"field {k} of key {key}")
    require(parent[5] == child[5], 704, "rope")
    require(parent[10] == child[10], 704, "layers")
    was, now = parent[6], child[6]
    require((was[1] == 0) == (now[1] == 0), 704, "one of the two does not name its prompt")
    require(was[1] == 0 or now[4] >= was[4], 704, "fewer tokens")


def check_banks(parent, child):
    """LIN-L-5 and LIN-L-4."""
    before, after = banks_of(parent), banks_of(child)
    require(before.keys() == after.keys(), 704, "other banks")
    for identity, bank in after.items():
        was = before[identity]
        require(was.dtype == bank.dtype and was.shape[0] == bank.shape[0], 704, f"bank {identity}")
        if bank.shape[0] == 0:
            require(was.shape[1::2] == bank.shape[1::2], 704, f"heads or dim of bank {identity}")
        if by_position(bank):
            require(by_position(was), 704, f"bank {identity} was not by position")
        require(was.hadamard == bank.hadamard, 704, f"rotation of bank {identity}")


def check_claims(parent, child, base):
    """LIN-L-7 but for the issuer."""
    require(child.sub == parent.sub or base, 705, "subject")
    require(child.org == parent.org or (base and parent.org is None), 705, "organisation")
    require(set(child.scope.split(" ")) <= set(parent.scope.split(" ")), 705, "scope")


def extend(members, data, trust, now, expected, limit=MAX_MEMBERS):
    """Verifies the parent that the last of `members` wants, and adds it: [(header, file), …] from the tip."""
    require(len(members) < limit, 706)
    try:
        parent = verify_header(data, trust, now, replace(expected, **OF_TIP))
    except Refusal as refusal:
        if refusal.code in (402, 409):
            raise Refusal(708, str(refusal)) from None
        raise
    child = members[-1][0]
    wanted = child.manifest.parent
    require(wanted is not None and wanted[1] == parent.lineage(), 702)
    require(tuple(wanted[2]) == parent.manifest.positions, 703, "positions of the parent")
    require(child.claims.iss == parent.claims.iss, 707)
    check_same(parent.manifest.context, child.manifest.context)
    check_banks(parent.manifest, child.manifest)
    check_claims(parent.claims, child.claims, 14 in parent.manifest.context)
    require(not parent.claims.single_use, 410, "the parent is for one use")
    members = [*members, (parent, data)]
    total = sum(plain_len(header.manifest) for header, _ in members)
    require(expected.budget is None or total <= expected.budget, 910, f"{total} bytes")
    return members


def verify(data, parents, trust, now, expected, limit=MAX_MEMBERS):
    """The chain of a capsule, as long as `parents` lasts."""
    members = [(verify_header(data, trust, now, expected), data)]
    for parent in parents:
        members = extend(members, parent, trust, now, expected, limit)
    return members


def check_prompt(parent, child):
    """LIN-L-9."""
    stated = parent.manifest.prefix
    if stated[1] == 0:
        return
    sealed = child.section(manifest.TOKENS)
    require(sealed is not None, 704, "the increment does not seal its tokens")
    first = struct.unpack(f"<{len(sealed) // 4}I", sealed)[: stated[4]]
    require(prefix.prefix_value(first) == parent.section(manifest.PREFIX), 704, "prompt")


def open_members(members, wrapping_key):
    """Every member opened, from the root to the tip."""
    require(members[-1][0].manifest.parent is None, 701)
    opened = []
    for header, data in reversed(members):
        opened.append(opening.open_member(data, header, wrapping_key))
        if len(opened) > 1:
            check_prompt(*opened[-2:])
    return opened
