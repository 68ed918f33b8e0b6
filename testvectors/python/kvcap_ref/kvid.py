"""The `.kvid` file of model-id-v1 §10 as the model, tokenizer and rope of a manifest."""

import json

from . import cbor
from .errors import Refusal, require
from .schedule import b3

SCALINGS = {
    "none": (0, ()),
    "linear": (1, ("factor",)),
    "yarn": (
        2,
        ("factor", "original", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"),
    ),
    "llama3": (3, ("factor", "low_freq_factor", "high_freq_factor", "original")),
    "longrope": (4, ("short", "long", "original", "attention_factor", "long_used")),
    "factors": (5, ("factors",)),
    "proportional": (6, ("factor",)),
    "multi": (7, ("sections", "interleaved")),
}
COUNTS = {"original", "sections"}


def bits(text):
    """A binary64 value as the manifest holds it: little-endian."""
    return bytes.fromhex(text)[::-1]


def scaling(x):
    kind, members = SCALINGS[x["kind"]]

    def value(name):
        v = x[name]
        if isinstance(v, bool) or name in COUNTS:
            return v
        return [bits(f) for f in v] if isinstance(v, list) else bits(v)

    return [kind, *map(value, members)]


def model_digests(model):
    """(weights digest, model id) recomputed by MOD-W-5 and MOD-A-3."""
    files = [[f["name"], f["length"], bytes.fromhex(f["digest"])] for f in model["files"]]
    # Factors stand big-endian in the model id and little-endian in a manifest.
    adapters = [[bytes.fromhex(a["digest"]), bytes.fromhex(a["scale"])] for a in model["adapters"]]
    weights = b3("kvcap v1 weights", cbor.encode(files))
    return weights, b3("kvcap v1 model id", cbor.encode([files, bytes.fromhex(model["config"]), adapters]))


def read(path):
    """(manifest model, tokenizer, ropes, number of layers, context length)"""
    try:
        with open(path, encoding="utf-8") as file:
            kvid = json.load(file)
        require(kvid["kvid"] == 1, 930, "version of the kvid file")
        model, tokenizer = kvid["model"], kvid["tokenizer"]
        weights, model_id = model_digests(model)
        require((weights.hex(), model_id.hex()) == (model["weights"], model["id"]), 930, "digests of the kvid file")
        adapters = [[bytes.fromhex(a["digest"]), bits(a["scale"])] for a in model["adapters"]]
        specials = sorted(tokenizer["specials"].items(), key=lambda pair: pair[0].encode())
        fields = {
            1: bytes.fromhex(tokenizer["vocab"]),
            2: tokenizer["vocab_size"],
            3: tokenizer["version"],
            4: tokenizer["pre_tokenizer"],
            5: [list(pair) for pair in specials],
        }
        if tokenizer["chat_template"] is not None:
            fields[6] = bytes.fromhex(tokenizer["chat_template"])
        ropes = [
            {
                1: r["layers"],
                2: ["half", "interleaved"].index(r["pairing"]),
                3: r["rotary_dims"],
                4: bits(r["theta"]),
                5: scaling(r["scaling"]),
                6: 0,
                7: 0,
            }
            for r in kvid["rope"]
        ]
        geometry = kvid["geometry"]
        bound = {1: model_id, 2: weights, 3: bytes.fromhex(model["config"]), 4: adapters, 5: model["name"]}
        return bound, fields, ropes, len(geometry["layers"]), geometry["context_length"]
    except OSError as error:
        raise Refusal(940, str(error)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(930, f"{path}: {error!r}") from None
