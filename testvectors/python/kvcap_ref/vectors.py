"""Runs the vectors: accepted ones must give the same bytes, refused ones the same code."""

import gzip
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from . import chain, keys, manifest, memory, prefix, recipients, registry, verify
from . import open as opening
from .errors import Refusal, public, require

# Names of element types that vectors state.
DTYPES = {"f16": 1, "bf16": 2, "f32": 3, "f8_e4m3": 5}


class Released:
    """Every byte that a reader was given, in order."""

    def __init__(self):
        self.length, self.hash = 0, hashlib.sha256()

    def add(self, data):
        self.length += len(data)
        self.hash.update(data)

    def matches(self, stated):
        return self.length == stated["len"] and self.hash.hexdigest() == stated["sha256"]


def trust_of(context):
    return [
        keys.Trusted(
            bytes.fromhex(entry["key"]),
            entry["issuer"],
            frozenset(entry["suites"]),
            entry["not_before"],
            entry["sign_until"],
            entry["verify_until"],
            "compromised" if entry["compromised"] else "active",
            entry["for_capsules"],
        )
        for entry in context["trust"]
    ]


def rope_of(entry):
    return {1: entry["layers"], 2: entry["pairing"], 3: entry["rotary_dims"], 4: bytes.fromhex(entry["theta"])}


def unhex(value):
    """A scaling with its f64 values, which stand in hexadecimal."""
    if isinstance(value, list):
        return [unhex(v) for v in value]
    return bytes.fromhex(value) if isinstance(value, str) else value


# Limits that this reader lowers for its caller; vectors that lower another are skipped, and counted.
LOWERED = {"budget", "chain"}


def expected_of(context):
    stated = context["expected"]
    fields = {
        "audiences": frozenset(context["audiences"]),
        "subject": context["subject"],
        "org": context["organisation"],
        "scope": context["scope"],
        "suites": frozenset(context["suites"]),
        "skew": context["skew"],
        "max_lifetime": context["max_lifetime"],
        "budget": context["limits"].get("budget"),
        "banks": tuple((role, layer, 0) for role, layer in stated["banks"]),
        "dtypes": stated["dtypes"] and tuple(DTYPES[name] for name in stated["dtypes"]),
        "positions": stated["positions"] and tuple(stated["positions"]),
        "runtime": stated["runtime"] and tuple(stated["runtime"]),
        "session": stated["session"] and tuple(stated["session"]),
        "cti": stated["capsule"] and bytes.fromhex(stated["capsule"]),
    }
    if stated["layout"]:
        fields["format"], fields["facts"] = stated["layout"]
    if stated["prefix"]:
        key = bytes.fromhex(stated["prefix"]["key"])
        fields["prefix"] = key, prefix.prefix_value(stated["prefix"]["tokens"])
    if stated["model"]:
        model = stated["model"]
        fields["model"] = bytes.fromhex(model["id"])
        fields["rope"] = [rope_of(r) | {5: unhex(r["scaling"])} for r in model["rope"]]
        fields["tokenizer"] = {
            1: bytes.fromhex(model["vocab"]),
            2: model["vocab_size"],
            4: model["pre_tokenizer"],
            5: model["specials"],
        }
        if model["chat_template"]:
            fields["tokenizer"][6] = bytes.fromhex(model["chat_template"])
    return verify.Expected(**fields)


def key_of(context):
    return recipients.Secret(context["wrapping_type"], bytes.fromhex(context["wrapping_key"]))


def registry_of(context, folder):
    """The registry that is trusted beside the keys, or None."""
    stated = context["registry"]
    if stated is None:
        return None
    files = [load(folder / name) for name in stated["files"]]
    seen = stated["seen"] and (stated["seen"][0], bytes.fromhex(stated["seen"][1]))
    statement, seen_roots = stated.get("statement"), stated.get("seen_roots")
    root = registry.Root(
        None if statement else bytes.fromhex(stated["root"]),
        statement and bytes.fromhex(statement),
        tuple(stated.get("issuers", ())),
    )
    seen_roots = seen_roots and (seen_roots[0], bytes.fromhex(seen_roots[1]))
    return registry.newest(files, root, seen, seen_roots, context["now"])


def read(opened, reads, released, streams):
    """The ranges that a vector asks for; or every stream, then every bank."""
    for part in reads:
        released.add(opened.range(part["stream"], part["start"], part["end"]))
    if reads:
        return
    count = len(opened.manifest.streams)
    encoded = []
    for i in range(count):
        chunks = []
        for chunk in opened.chunks(i):
            released.add(chunk)
            chunks.append(chunk)
        encoded.append(b"".join(chunks))
    opening.receipts(opened)
    for i, described in enumerate(opened.manifest.streams):
        plain = None
        if isinstance(described, manifest.Bank):
            plain = opened.decoded(i, encoded[i])
        streams.append({"bank": plain and sha256(plain), "len": len(encoded[i]), "sha256": sha256(encoded[i])})


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def outcome(data, context, released, streams, folder):
    """0, or the code with which a reader refuses that opens without checking the body first."""
    try:
        trust, expected = trust_of(context), expected_of(context)
        now, kept = context["now"], None
        if context["memory"] is not None:
            kept = memory.Memory(context["memory"]["latest"])
            now = kept.observe(now)
        listed = registry_of(context, folder)
        if listed is not None:
            trust, expected = trust + listed.keys, replace(expected, revoked=listed.revoked)
        if context["parents"]:
            parents = [load(folder / name) for name in context["parents"]]
            limit = context["limits"].get("chain", chain.MAX_MEMBERS)
            members = chain.verify(data, parents, trust, now, expected, limit)
            if context["wrapping_key"] is None:
                for header, file in members:
                    verify.check_body(file, header)
                return 0
            for opened in chain.open_members(members, key_of(context)):
                read(opened, [], released, streams)
            return 0
        if context["later"] is not None:
            # Admitted by the header at `now`; the body has arrived at `later`.
            verify.verify_header(data, trust, now, expected)
            now = context["later"]
            if listed is not None:
                registry.check_time(listed, now)
        if context["wrapping_key"] is None:
            verify.verify(data, trust, now, expected)
        else:
            wrapping_key = key_of(context)
            for name in context["memory"]["opened"] if kept else []:
                before = opening.open_capsule(load(folder / name), trust, wrapping_key, now, expected)
                kept.record(before.header)
            opened = opening.open_capsule(data, trust, wrapping_key, now, expected)
            if kept:
                kept.confirm(now)
            memory.record(kept, opened.header)
            read(opened, context["reads"], released, streams)
        return 0
    except Refusal as refusal:
        return refusal.code


# Stages that a reader without a wrapping key goes through.
KEYLESS = ("trust", "header", "verify", "chain", "body", "accept")


def problems_of(vector, default, data, folder):
    """(code, what differs from the index) of one vector."""
    context = default | vector["context"]
    released, streams, problems = Released(), [], []
    if sha256(data) != vector["sha256"]:
        problems.append("the file is not the one of the index")
    code = outcome(data, context, released, streams, folder)
    if code != vector["code"]:
        problems.append(f"code {code}, {vector['code']} expected")
    if public(code) != vector["public"]:
        problems.append(f"{public(code)} to a remote caller, {vector['public']} expected")
    if not released.matches(vector["released"]):
        problems.append(f"{released.length} bytes released, {vector['released']['len']} expected")
    if "streams" in vector and streams != vector["streams"]:
        problems.append("plaintext differs")
    keyless = outcome(data, context | {"wrapping_key": None}, Released(), [], folder)
    if keyless != (vector["code"] if vector["stage"] in KEYLESS else 0):
        problems.append(f"code {keyless} without a wrapping key")
    return code, problems


def load(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def run(folder, every):
    folder = Path(folder)
    index = json.loads((folder / "manifest.json").read_text())
    require(index["format"] == 1, 944, "format of the vectors")
    counts, differing = Counter(), 0
    for vector in index["vectors"]:
        if vector["context"].get("limits", {}).keys() - LOWERED:
            counts["skipped"] += 1
            continue
        code, problems = problems_of(vector, index["default_context"], load(folder / vector["file"]), folder)
        counts["accepted" if code == 0 else "refused"] += 1
        differing += bool(problems)
        if problems or every:
            print(f"{vector['name']:32} {vector['kind']} {vector['stage']:8} {code:4}  {'; '.join(problems) or 'ok'}")
    total = len(index["vectors"])
    print(f"{total} vectors: {counts['accepted']} accepted, {counts['refused']} refused, {differing} not as expected")
    if counts["skipped"]:
        print(f"{counts['skipped']} skipped: they lower limits that this reader does not let a caller lower")
    return 1 if differing else 0
