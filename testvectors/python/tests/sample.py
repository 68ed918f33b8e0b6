"""A small capsule made here, with fixed keys and seeded randomness."""

import hashlib

from kvcap_ref import codecs, ed25519, keys, manifest, prefix, schedule, seal, verify
from kvcap_ref import open as opening
from kvcap_ref.envelope import Claims

NOW = 1_800_000_000
SEED, WRAP = bytes(range(32)), bytes(range(32, 64))
PUBLIC = ed25519.public_key(SEED)
TRUST = [keys.Trusted(PUBLIC, "maker")]
TOKENS = list(range(7, 7 + 130))
CLAIMS = Claims("maker", "restorer", NOW + 3600, NOW, NOW, b"", "kv:restore kv:inspect", sub="ann", org="lab")
EXPECTED = verify.Expected(subject="ann", org="lab")
F64_ONE = bytes.fromhex("000000000000f03f")


def stream_of_bytes(seed=b""):
    """Stands in for the system's generator."""
    counter = 0

    def take(n):
        nonlocal counter
        counter += 1
        return hashlib.shake_256(seed + counter.to_bytes(8, "big")).digest(n)

    return take


def digest(name):
    return schedule.b3("test digest", name.encode())


def bank(role, layer, dim, heads=2, tokens=130, chunk=4096):
    plain = stream_of_bytes(bytes([role, layer]))(heads * tokens * dim * 2)
    entry = {
        1: 0,
        2: role,
        3: layer,
        4: 0,
        5: codecs.SAFETENSORS["F16"],
        6: [0, heads, tokens, dim],
        7: [0, 0],
        8: 0,
        9: [codecs.EXACT],
        10: len(plain),
        11: chunk,
    }
    return seal.Stream(entry, plain)


def context(suite=1):
    value = prefix.prefix_value(TOKENS)
    key = prefix.prefix_key(WRAP)
    rope = {1: [0], 2: 0, 3: 4, 4: F64_ONE, 5: [1, F64_ONE], 6: 0, 7: 0}
    return {
        1: suite,
        2: {1: digest("model"), 2: digest("weights"), 3: digest("config"), 4: [], 5: "tiny"},
        3: {1: digest("vocabulary"), 2: 512, 3: "1", 4: "pre", 5: [["bos", 1], ["eos", 2]], 6: digest("template")},
        4: {1: "raw", 2: "", 3: "safetensors", 4: [["order", "head"]]},
        5: [rope],
        6: {1: 1, 2: prefix.prefix_key_id(key), 3: prefix.commit(key, value), 4: len(TOKENS)},
        7: [0, len(TOKENS)],
        8: 0,
        9: 4096,
        10: [2, [1]],
        11: [],
    }


def streams():
    ids = b"".join(map(schedule.u32, TOKENS))
    return [
        bank(manifest.KEY, 0, 8),  # two chunks
        bank(manifest.VALUE, 0, 1),
        seal.section(manifest.TOKENS, ids),
        seal.section(manifest.HISTORY, b""),
        seal.section(manifest.PREFIX, prefix.prefix_value(TOKENS)),
    ]


def capsule(claims=CLAIMS, suite=1, parts=None, ctx=None, **options):
    parts = streams() if parts is None else parts
    ctx = context(suite) if ctx is None else ctx
    return seal.seal(claims, ctx, parts, SEED, [WRAP], stream_of_bytes(b"capsule"), **options)


def plain_streams(data):
    opened = opening.open_capsule(data, TRUST, WRAP, NOW, EXPECTED)
    return [opened.plain(i) for i in range(len(opened.manifest.streams))]


def verified(data, now=NOW, expected=EXPECTED):
    return verify.verify(data, TRUST, now, expected)
