"""kvcap.llama_cpp over saved sequences of llama-cpp-python, by a stand-in that writes and reads them as it does; and over
itself, where it and a model are installed (KVCAP_LLAMA_MODEL)."""

import ctypes
import importlib
import os
import sys
import types
from pathlib import Path

import pytest

import kvcap
from conftest import FIXTURES

SEQUENCES = ["llama_ggsq3_f16_fa.bin", "llama_ggsq3_f16_vtrans.bin", "llama_ggsq3_q4_0.bin"]


class Llama:
    """As much of llama_cpp.Llama as is asked."""

    ctx = object()

    def __init__(self, state):
        count = int.from_bytes(state[8:12], "little")
        ids = [int.from_bytes(state[at : at + 4], "little") for at in range(12, 12 + 4 * count, 4)]
        self.input_ids, self.n_tokens, self.state = [0] * 512, 0, state
        self.remember(ids)

    def remember(self, ids):
        self.input_ids[: len(ids)], self.n_tokens = ids, len(ids)

    def n_ctx(self):
        return 512


@pytest.fixture
def stand_in(monkeypatch):
    """llama_cpp with the two functions, which know one Llama."""
    made = types.ModuleType("llama_cpp")
    made.llama_token = ctypes.c_int32
    made.llama = None
    made.paths = []

    def save(ctx, path, sequence, ids, count):
        assert ctx is Llama.ctx and sequence == 0
        state = made.llama.state
        assert list(ids) == made.llama.input_ids[:count]
        made.paths.append(path)
        return Path(path.decode()).write_bytes(state)

    def load(ctx, path, sequence, ids, capacity, count):
        made.llama.taken = Path(path.decode()).read_bytes()
        held = Llama(made.llama.taken)
        for at in range(held.n_tokens):
            ids[at] = held.input_ids[at]
        count._obj.value = held.n_tokens
        return len(made.llama.taken) - made.short

    made.short = 0
    made.llama_state_seq_save_file, made.llama_state_seq_load_file = save, load
    monkeypatch.setitem(sys.modules, "llama_cpp", made)
    monkeypatch.delitem(sys.modules, "kvcap.llama_cpp", raising=False)
    made.ours = importlib.import_module("kvcap.llama_cpp")
    yield made
    sys.modules.pop("kvcap.llama_cpp", None)


def said(claims):
    return {name: getattr(claims, name) for name in ("model", "positions", "prompt", "layers", "length")}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_gives_the_capsule_of_its_file_and_comes_back(profile, stand_in, tmp_path, name):
    state = (FIXTURES / name).read_bytes()
    stand_in.llama = Llama(state)
    tokens = stand_in.llama.input_ids[: stand_in.llama.n_tokens]
    stand_in.ours.save(stand_in.llama, tmp_path / "a.kvcap", profile=profile)
    kvcap.seal(FIXTURES / name, tmp_path / "b.kvcap", profile=profile, runtime="llama-cpp")
    of_memory, of_file = (kvcap.inspect(tmp_path / file) for file in ("a.kvcap", "b.kvcap"))
    assert said(of_memory) == said(of_file) and of_memory.runtime[0] == of_file.runtime[0] == "llama.cpp"
    stand_in.llama.remember([])
    loaded = stand_in.ours.load_into(stand_in.llama, tmp_path / "a.kvcap", profile=profile)
    assert stand_in.llama.taken == state and loaded.opened.state == state
    assert loaded.tokens == tokens == stand_in.llama.input_ids[: stand_in.llama.n_tokens]


def test_the_plain_state_has_no_name_in_any_folder(profile, stand_in, tmp_path):
    stand_in.llama = Llama((FIXTURES / SEQUENCES[0]).read_bytes())
    before = len(os.listdir("/proc/self/fd"))
    stand_in.ours.save(stand_in.llama, profile=profile)
    assert [path.startswith(b"/proc/self/fd/") for path in stand_in.paths] == [True]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_refused_never_reaches_llama_cpp(profile, stand_in, tmp_path):
    stand_in.llama = Llama((FIXTURES / SEQUENCES[0]).read_bytes())
    capsule = bytearray(stand_in.ours.save(stand_in.llama, profile=profile).capsule)
    capsule[-1] ^= 1
    with pytest.raises(kvcap.KvcapError, match="KVC-805"):
        stand_in.ours.load_into(stand_in.llama, capsule, profile=profile)
    assert not hasattr(stand_in.llama, "taken")
    capsule[-1] ^= 1
    stand_in.short = 1
    with pytest.raises(OSError, match="llama.cpp took"):
        stand_in.ours.load_into(stand_in.llama, capsule, profile=profile)


def test_llama_cpp_itself_goes_on_from_a_capsule(keys, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: never run against it")
    model = os.environ.get("KVCAP_LLAMA_MODEL")
    if model is None:
        pytest.skip("KVCAP_LLAMA_MODEL names no GGUF file")
    from kvcap import llama_cpp as ours

    profile = kvcap.Profile(sign_key=keys / "issuer.key", wrap_key=keys / "reader.key",
                            trust=keys / "issuer.key.pub", model=model, ttl="1h")
    first, second = (llama_cpp.Llama(model, n_ctx=512, verbose=False, seed=1) for _ in range(2))
    tokens = [(at * 7919 + 13) % 1000 for at in range(64)]
    first.eval(tokens)
    ours.save(first, tmp_path / "a.kvcap", profile=profile)
    with ours.as_file(first) as state:
        assert kvcap.open(tmp_path / "a.kvcap", profile=profile).state == state
    ours.load_into(second, tmp_path / "a.kvcap", profile=profile, tokens=tokens)
    assert second.n_tokens == 64
    said = [next(llama.generate([*tokens, 7], temp=0)) for llama in (first, second)]
    assert said[0] == said[1]
