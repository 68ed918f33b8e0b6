"""The test vectors through the wheel: whole and as their bytes come, one code each (testvectors/README.md)."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

import kvcap
from conftest import ROOT

VECTORS = ROOT / "testvectors/vectors"
INDEX = json.loads((VECTORS / "manifest.json").read_text())
#: What the vectors leave out.
ACCEPTED = ["model", "speculative-prefill", "multi-token-prediction", "quantized-attention"]


def key_text(kind, key):
    checksum = blake3(kind.encode() + key, derive_key_context="kvcap v1 key file").digest(4)
    return kind + (key + checksum).hex()


def settings(context):
    """A context as settings, or None where a setting cannot say it: the library's own tests hold to these."""
    unset = {name: [] if name == "banks" else None for name in context["expected"]}
    named = {name: context["expected"][name] for name in ("runtime", "session")}
    said = (
        context["expected"] == unset | named
        and context["limits"] == {}
        and context["suites"] == [1, 2]
        and context["skew"] == 60
        and context["later"] is context["memory"] is None
        and len(context["audiences"]) == 1
    )
    trust = []
    for key in context["trust"]:
        plain = key["for_capsules"] and key["suites"] == [1, 2] and not key["not_before"] and not key["compromised"]
        said = said and plain and key["sign_until"] is key["verify_until"] is None
        text = f"issuer: {key['issuer']}\n{key_text('kvcap-pub-1', bytes.fromhex(key['key']))}"
        said = said and text not in trust
        trust.append(text)
    registry = {}
    if context["registry"]:
        stated = context["registry"]
        said = said and not trust and stated["seen"] is None and "seen_roots" not in stated
        root = key_text("kvcap-root-1", bytes.fromhex(stated["root"]))
        if "statement" in stated:
            root = key_text("kvcap-roots-1", bytes.fromhex(stated["statement"]))
        root = "".join(f"issuer: {issuer}\n" for issuer in stated.get("issuers", [])) + root
        registry = {"registry": [VECTORS / context["registry"]["files"][-1]], "registry_root": [root]}
    if not said or not (trust or registry):
        return None
    runtime = context["expected"]["runtime"] or (None, None)
    return registry | {
        "trust": trust or None,
        "audience": context["audiences"][0],
        "subject": context["subject"],
        "tenant": context["organisation"],
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "scope": context["scope"],
        "at": context["now"],
        "max_lifetime": context["max_lifetime"],
    }


def cases():
    for vector in INDEX["vectors"]:
        context = INDEX["default_context"] | vector["context"]
        if (made := settings(context)) is not None:
            yield pytest.param(vector, context, made, id=vector["name"])


def content(vector):
    stored = (VECTORS / vector["file"]).read_bytes()
    return gzip.decompress(stored) if vector["file"].endswith(".gz") else stored


def code_of(call):
    try:
        call()
    except kvcap.KvcapError as refused:
        return refused.code
    return 0


@pytest.mark.parametrize(("vector", "context", "made"), cases())
def test_a_vector_is_judged_as_its_index_says(vector, context, made, tmp_path):
    capsule, profile = content(vector), kvcap.Profile(**made)
    # apart from the other vectors, since ancestors are looked for beside those that are named
    chain = [Path(shutil.copy(VECTORS / parent, tmp_path)) for parent in context["parents"]]
    session = context["expected"]["session"]
    # what of a chain is left out is missed when it is opened
    accepted = [*ACCEPTED, "ancestors"] if vector["stage"] == "open" or not chain else ACCEPTED
    terms = {"profile": profile, "accept_unchecked": accepted, "session": tuple(session) if session else None}
    # what only opening sees is accepted here
    expected = vector["code"] if vector["stage"] not in ("open", "read", "decode", "accept") else 0
    if vector["name"] == "chain_member_left_out":
        expected = 0  # it is the order that is wrong, and `chain` takes any
    assert code_of(lambda: kvcap.verify(capsule, chain=chain, **terms)) == expected
    if chain:
        return

    def pushed(size):
        verifying = kvcap.Verifying(**terms)
        for at in range(0, len(capsule), size):
            verifying.feed(capsule[at : at + size])
        verifying.finish()

    if len(capsule) < 1 << 20:
        for size in (17, 1 << 20):
            assert code_of(lambda: pushed(size)) == expected


def test_most_vectors_can_be_said_by_settings():
    assert len(list(cases())) > 0.7 * len(INDEX["vectors"])
