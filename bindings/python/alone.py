"""Tries an installed wheel by itself: seals a state, verifies and opens it, and sees a stranger's capsule refused.

python alone.py STATE FOLDER
"""

import sys
import tempfile
from pathlib import Path

import kvcap

state = Path(sys.argv[1])
with tempfile.TemporaryDirectory(dir=sys.argv[2]) as name:
    folder = Path(name)
    for who in ("issuer", "stranger"):
        kvcap.new_signing_key(folder / f"{who}.key", issuer=f"{who}.example.com")
    kvcap.new_wrapping_key(folder / "reader.key")
    model = state.with_name("model")

    def profile(who: str) -> kvcap.Profile:
        return kvcap.Profile(
            sign_key=folder / f"{who}.key",
            wrap_key=folder / "reader.key",
            trust=folder / "issuer.key.pub",
            model=model,
            ttl="1h",
        )

    capsule = kvcap.seal(state, profile=profile("issuer"), danger_no_prefix=True).capsule
    kvcap.verify(capsule, profile=profile("issuer"))
    assert kvcap.open(capsule, profile=profile("issuer")).state == state.read_bytes()
    strange = kvcap.seal(state, profile=profile("stranger"), danger_no_prefix=True).capsule
    try:
        kvcap.verify(strange, profile=profile("issuer"))
        sys.exit("a stranger's capsule was not refused")
    except kvcap.KvcapError as refused:
        assert 300 <= refused.code < 400, refused
