"""Runs the vectors of what lies beside capsules: statements of equivalence, notes, key files under a passphrase."""

import json

from . import equivalence, keys, note, operations, registry
from .errors import Refusal
from .vectors import trust_of

KINDS = {"signing": [keys.SECRET_SIGN], "wrapping": list(keys.SECRETS)}


def stated(given):
    said = equivalence.verify(bytes.fromhex(given["file"]), trust_of(given), given["now"])
    said.check(*map(bytes.fromhex, given["models"]))
    return {"issuer": said.issuer, "issued_at": said.issued, "expires": said.expires, "key": said.kid.hex()}


def noted(given):
    root = registry.Root(bytes.fromhex(given["root"]))
    found = registry.read(bytes.fromhex(given["registry"]), root)
    newest = found.statements[-1] if found.statements else None
    publics = [*newest.roots, *newest.stamps] if newest else [root.key]
    chain = newest.chain if newest else registry.root_id(root.key)
    marks = [note.read(text, publics) for text in given["notes"]]
    note.check([(chain, found.version, found.digest), *marks])
    return {"versions": [[version, digest.hex()] for _, version, digest in marks]}


def unlocked(given):
    text = keys.unlock(given["file"], given["passphrase"])
    line = keys.key_line(text)
    for kind in KINDS[given["as"]]:
        if line.startswith(kind):
            keys.parse_key(text, kind)
            return {"secret": line}
    raise Refusal(942, "another kind of key")


OPERATIONS = {"equivalence": stated, "notes": noted, "locked-key": unlocked}


def run(path):
    return operations.run(json.loads(path.read_bytes()), OPERATIONS, "vectors beside capsules")
