"""A reader and a sealer with keys of their own, and the project's small model and saved states."""

from pathlib import Path

import pytest

import kvcap

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests/fixtures"


@pytest.fixture
def keys(tmp_path):
    kvcap.new_signing_key(tmp_path / "issuer.key", issuer="prefill.example.com")
    kvcap.new_wrapping_key(tmp_path / "reader.key")
    return tmp_path


@pytest.fixture
def settings(keys):
    """What both sides set."""
    return {
        "sign_key": keys / "issuer.key",
        "wrap_key": keys / "reader.key",
        "trust": keys / "issuer.key.pub",
        "model": FIXTURES / "model",
        "ttl": "1h",
    }


@pytest.fixture
def profile(settings):
    return kvcap.Profile(**settings)


@pytest.fixture
def state():
    """A saved state of transformers with its length."""
    return FIXTURES / "hf_f16.safetensors"


@pytest.fixture(autouse=True)
def nobodys(monkeypatch, tmp_path):
    """No configuration and no cache of the user who runs the tests."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
