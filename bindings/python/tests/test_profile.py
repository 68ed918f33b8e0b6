"""Profiles and keys: policy is the library's, secrets stay in their files."""

import os
import struct
import subprocess
import sys

import pytest

import kvcap


def test_a_profile_is_what_its_arguments_say(settings, monkeypatch):
    monkeypatch.setenv("KVCAP_AUDIENCE", "from the environment")
    profile = kvcap.Profile(**settings, audience="kv.example.com")
    assert profile.name is None
    assert profile.settings["audience"] == ["kv.example.com"]
    assert kvcap.Profile(**settings).settings.get("audience") is None
    assert kvcap.Profile.load(**settings).settings["audience"] == ["from the environment"]


def test_settings_that_are_none_are_refused():
    with pytest.raises(TypeError, match="no such setting: audienec"):
        kvcap.Profile(audienec="x")
    with pytest.raises(ValueError, match="audience is one value"):
        kvcap.Profile(audience=["a", "b"])


def test_a_made_profile_is_the_users_own(state, tmp_path):
    from conftest import FIXTURES

    made = kvcap.Profile.create(issuer="ana@example.com", model=str(FIXTURES / "model"), ttl="2h")
    assert made.name == "default"
    # nobody names a profile from here on
    kvcap.seal(state, tmp_path / "a.kvcap", danger_no_prefix=True)
    verdict = kvcap.verify(tmp_path / "a.kvcap")
    assert verdict.issuer == "ana@example.com" and "freshness" not in verdict.unchecked
    assert kvcap.open(tmp_path / "a.kvcap").state == state.read_bytes()
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.Profile.create(model=str(FIXTURES / "model"), ttl="2h")
    assert refused.value.code == 941


def test_a_key_under_a_passphrase_opens_with_it_alone(settings, state, tmp_path):
    kvcap.new_signing_key(tmp_path / "locked.key", passphrase="correct horse")
    trust = tmp_path / "locked.key.pub"
    known = kvcap.Profile(**{**settings, "sign_key": tmp_path / "locked.key", "trust": trust}, passphrase="correct horse")
    assert "horse" not in repr(known) and "horse" not in str(known.settings)
    made = kvcap.seal(state, profile=known, danger_no_prefix=True)
    kvcap.verify(made.capsule or b"", profile=known)
    for passphrase in (None, "wrong"):
        unknown = kvcap.Profile(**{**settings, "sign_key": tmp_path / "locked.key"}, passphrase=passphrase)
        with pytest.raises(kvcap.KvcapError) as refused:
            kvcap.seal(state, profile=unknown, danger_no_prefix=True)
        assert refused.value.code == 946


def test_keys_say_their_public_half(tmp_path):
    key = kvcap.new_signing_key(tmp_path / "a.key", issuer="a.example.com")
    read = kvcap.read_public_key(str(tmp_path / "a.key.pub"))
    assert (read.id, read.public, read.issuer) == (key.id, key.public, "a.example.com")
    assert os.stat(tmp_path / "a.key").st_mode & 0o777 == 0o600
    assert kvcap.new_wrapping_key(tmp_path / "s.key").public is None
    assert (kvcap.new_wrapping_key(tmp_path / "x.key", kind="x25519").public or "").startswith("kvcap-hpke-1")
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.new_wrapping_key(tmp_path / "s.key")
    assert refused.value.code == 941


def test_without_a_setting_that_is_needed_the_setting_is_named(settings, state):
    for name in ("sign_key", "ttl", "wrap_key", "model"):
        less = kvcap.Profile(**{key: value for key, value in settings.items() if key != name})
        with pytest.raises(kvcap.KvcapError) as refused:
            kvcap.seal(state, profile=less, danger_no_prefix=True)
        assert refused.value.code == 944 and refused.value.where == name.replace("_", "-")
    nobody = kvcap.Profile(**{key: value for key, value in settings.items() if key != "trust"})
    with pytest.raises(kvcap.KvcapError):
        kvcap.verify(state, profile=nobody)


def codec_profile(model):
    """A file of codecs-v1 §12.7 for the small model: heads by themselves, and each channel its own component."""
    heads, dim = 2, 64
    banks = [(layer, role) for layer in range(6) for role in range(2)]
    cells = [int(row == column) for _ in range(heads) for row in range(dim) for column in range(dim)]
    count = heads * dim
    out = b"KVTCPROF" + struct.pack("<4H", 1, len(banks), 0, 0) + model
    for layer, role in banks:
        out += struct.pack("<I2B3H", layer, role, 1, heads, dim, 0)
    for _ in banks:
        out += struct.pack(f"<{count}f", *[0.0] * count) + bytes(count)
        out += struct.pack(f"<{len(cells)}b", *[100 * cell for cell in cells])
        out += struct.pack(f"<{count}f", *[1 / 3e6] * count)
        out += struct.pack(f"<{len(cells)}h", *[30_000 * cell for cell in cells])
    return out


# A process remembers the codec profiles that it met, so one of its own seals.
SEAL = """
import sys
import kvcap

state, to, *settings = sys.argv[1:]
profile = kvcap.Profile(**dict(setting.split("=", 1) for setting in settings))
kvcap.seal(state, to, profile=profile, danger_no_prefix=True)
"""


def test_a_capsule_opens_with_the_codec_profile_that_it_names_and_not_without(settings, profile, state, tmp_path):
    model = bytes.fromhex(kvcap.model_id(settings["model"]).id)
    kept = tmp_path / "home/kvcap/codec-profiles"
    kept.mkdir(parents=True)
    (kept / "made.kvtc").write_bytes(codec_profile(model))
    said = [f"{name}={value}" for name, value in settings.items()]
    capsule = tmp_path / "a.kvcap"
    subprocess.run([sys.executable, "-c", SEAL, state, capsule, *said, "encoding=tc:10"], check=True)

    (kept / "made.kvtc").rename(tmp_path / "away.kvtc")
    kvcap.verify(capsule, profile=profile)
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.open(capsule, profile=profile)
    assert refused.value.code == 908
    (tmp_path / "away.kvtc").rename(kept / "another-name.kvtc")
    opened, before = kvcap.open(capsule, profile=profile).state, state.read_bytes()
    assert opened is not None and opened != before
    head = 8 + int.from_bytes(before[:8], "little")
    assert opened[:head] == before[:head] and len(opened) == len(before)
    numbers = [struct.unpack(f"<{(len(one) - head) // 2}e", one[head:]) for one in (before, opened)]
    error = sum((a - b) ** 2 for a, b in zip(*numbers, strict=True))
    assert error < 1e-3 * sum(a * a for a in numbers[0])
