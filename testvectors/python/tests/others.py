"""Cross-checks of one capsule with a COSE library, a CBOR library and a CDDL tool from PyPI."""

import re
from functools import cache
from pathlib import Path

import cbor2
import zcbor
from cwt import COSE, COSEKey

from kvcap_ref import cbor, keys, prologue, verify

SPEC = Path(__file__).parents[3] / "spec" / "capsule-v1.md"


class Cddl(zcbor.DataTranslator):
    """zcbor names the values that it reads after their rules, and stumbles over two of one rule."""

    def _construct_obj(self, pairs):
        return super()._construct_obj([(f"{name}_{i}", value) for i, (name, value) in enumerate(pairs)])


@cache
def rules():
    """The CDDL of the specification, as it stands there."""
    blocks = re.findall(r"^```cddl\n(.*?)^```", SPEC.read_text(), re.M | re.S)
    return Cddl.from_cddl(cddl_string="\n".join(blocks), default_max_qty=1 << 20).my_types


def matches(manifest):
    try:
        return rules()["manifest"].validate_str(manifest)
    except Exception:
        return False


def envelope_of(data):
    return verify.framed(data)[1]


def raw_envelope(data):
    return bytes(data[prologue.SIZE : prologue.parse(data).envelope_end])


def check_signature(data, public):
    key = COSEKey.new({1: 1, 3: -19, -1: 6, -2: public, 2: keys.sign_key_id(public)})
    return COSE.new().decode(raw_envelope(data), key)


def check(data, public):
    """Raises unless all three agree with this package about a valid capsule."""
    ours = envelope_of(data)
    if check_signature(data, public) != ours.payload:
        raise AssertionError("the COSE library reads another payload")
    for part in (ours.payload, ours.protected):
        if cbor2.loads(part) != cbor.decode(part):
            raise AssertionError("the CBOR library reads another value")
        # Where all keys are integers, RFC 7049's order of map keys is also the bytewise one.
        if cbor2.dumps(cbor2.loads(part), canonical=True) != part:
            raise AssertionError("the CBOR library writes other bytes")
    if not rules()["envelope"].validate_str(raw_envelope(data)):
        raise AssertionError("the envelope does not match the CDDL")
