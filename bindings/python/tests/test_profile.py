"""Profiles and keys: policy is the library's, secrets stay in their files."""

import os

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
