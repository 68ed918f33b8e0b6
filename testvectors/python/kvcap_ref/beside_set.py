"""Runs the vectors of what lies beside capsules: statements of equivalence, notes, key files under a passphrase."""

import json

from . import equivalence, keys, note, registry
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


def problem(vector):
    """What differs from the vector, or None."""
    try:
        output = OPERATIONS[vector["operation"]](vector["input"])
    except Refusal as refusal:
        return None if refusal.code == vector["code"] else f"code {refusal.code}, {vector['code']} expected"
    if vector["code"]:
        return f"accepted, {vector['code']} expected"
    return None if output == vector["output"] else f"output differs: {output}"[:400]


def run(path):
    index = json.loads(path.read_bytes())
    if index["format"] != 1:
        raise ValueError("format of the vectors beside capsules")
    problems = [(vector["name"], found) for vector in index["vectors"] if (found := problem(vector))]
    for vector, found in problems:
        print(f"{vector:40} {found}")
    print(f"{len(index['vectors'])} vectors beside capsules: {len(problems)} not as expected")
    return 1 if problems else 0
