"""Notes of a registry's versions (registry-v1 §9): C2SP signed notes."""

import base64
import binascii
import hashlib

from . import ed25519
from .errors import Refusal, require
from .registry import root_id

LONGEST = 4096
DASH = "\u2014 "


def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(313, "not base 64") from None
    require(base64.b64encode(data).decode() == text, 313, "not the one form of base 64")
    return data


def text_of(chain, version, digest):
    return f"kvcap.registry/{chain.hex()}\n{version}\n{base64.b64encode(digest).decode()}\n"


def name_of(public):
    return f"kvcap.root/{root_id(public).hex()}"


def key_hash(name, public):
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def read(note, publics):
    """REG-N-1, REG-N-2: (chain, version, digest) of a note that one of `publics` has signed."""
    require(len(note.encode()) <= LONGEST and "\n\n" in note, 313)
    lines, signatures = note.split("\n\n", 1)
    lines = lines.split("\n")
    require(len(lines) == 3 and lines[0].startswith("kvcap.registry/") and lines[1].isdecimal(), 313)
    try:
        chain = bytes.fromhex(lines[0].removeprefix("kvcap.registry/"))
    except ValueError:
        raise Refusal(313) from None
    digest = unbase64(lines[2])
    require(len(chain) == 16 and len(digest) == 32, 313)
    text = text_of(chain, int(lines[1]), digest)
    require(note.startswith(text + "\n"), 313)
    signed = False
    for line in signatures.removesuffix("\n").split("\n") if signatures else []:
        require(line.startswith(DASH) and line.count(" ") == 2, 313)
        _, signer, signature = line.split(" ")
        data = unbase64(signature)
        for public in publics:
            if name_of(public) != signer or data[:4] != key_hash(signer, public):
                continue
            require(len(data) == 68, 313)
            try:
                ed25519.verify(public, text.encode(), data[4:])
            except Refusal:
                raise Refusal(308) from None
            signed = True
    require(signed, 308)
    return chain, int(lines[1]), digest


def check(marks):
    """REG-N-3: marks of one chain, of which no two of one version differ."""
    seen = {}
    for chain, version, digest in marks:
        require(chain == marks[0][0], 309)
        require(seen.setdefault(version, digest) == digest, 309)
