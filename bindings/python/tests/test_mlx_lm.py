"""Prompt caches of mlx-lm in memory against the file that mlx-lm writes, and words that go on."""

import importlib.util
import json

import pytest

import kvcap
from conftest import FIXTURES, ROOT

if importlib.util.find_spec("mlx_lm") is None:
    pytest.skip("NOT RUN: mlx-lm is not installed", allow_module_level=True)

import mlx.core as mx
from mlx_lm import load
from mlx_lm.models import cache as caches

from kvcap import mlx_lm as kv

mx.set_default_device(mx.cpu)
MODEL = ROOT / "tests/live/model"
PROMPT = json.loads((MODEL / "prompts.json").read_text())["rustdoc"]


@pytest.fixture(scope="module")
def model():
    return load(str(MODEL))[0]


@pytest.fixture
def profile(settings):
    return kvcap.Profile(**settings | {"model": MODEL})


def read(model, tokens, cache):
    out = model(mx.array([tokens]), cache=cache)
    mx.eval(out, [entry.state for entry in cache])
    return out


@pytest.mark.parametrize("kind", ["plain", "q8", "bfloat16", "short"])
def test_a_cache_is_the_file_that_would_be_saved_and_goes_on_alike(model, profile, tmp_path, kind):
    tokens, more = PROMPT[: 3 if kind == "short" else 300], PROMPT[300:320]
    cache = caches.make_prompt_cache(model)
    read(model, tokens, cache)
    if kind == "q8":
        cache = [entry.to_quantized(group_size=64, bits=8) for entry in cache]
    if kind == "bfloat16":
        for entry in cache:
            entry.keys, entry.values = (array.astype(mx.bfloat16) for array in (entry.keys, entry.values))
    metadata = {"model": "small", "note": "a"}
    caches.save_prompt_cache(str(tmp_path / "state.safetensors"), cache, metadata)
    content = (tmp_path / "state.safetensors").read_bytes()
    assert bytes(kv.as_file(cache, metadata)) == content

    made = kv.save(cache, tmp_path / "a.kvcap", tokens=tokens, metadata=metadata, profile=profile)
    by_file = kvcap.seal(tmp_path / "state.safetensors", profile=profile, tokens=tokens, runtime_version="0.32.2")
    assert (made.length, made.positions) == (by_file.length, by_file.positions)
    loaded = kv.load_into(model, tmp_path / "a.kvcap", profile=profile, tokens=tokens)
    assert loaded.tokens == tokens
    if kind != "q8":  # rows that a quantized cache has in store hold anything, and come back as zeros
        assert bytes(kv.as_file(loaded.cache, metadata)) == content
    if kind != "bfloat16":
        assert (read(model, more, loaded.cache) == read(model, more, cache)).all()


@pytest.mark.parametrize("name", ["mlx032_f16", "mlx032_hybrid", "mlx032_list", "mlx032_q4", "mlx032_rotating"])
def test_every_class_of_cache_is_the_file_that_would_be_saved(tmp_path, name):
    cache, metadata = caches.load_prompt_cache(str(FIXTURES / f"{name}.safetensors"), return_metadata=True)
    caches.save_prompt_cache(str(tmp_path / "again.safetensors"), cache, metadata)
    assert bytes(kv.as_file(cache, metadata)) == (tmp_path / "again.safetensors").read_bytes()


def test_a_capsule_of_another_model_is_refused(model, profile, settings, tmp_path):
    cache = caches.make_prompt_cache(model)
    read(model, PROMPT[:20], cache)
    kv.save(cache, tmp_path / "a.kvcap", tokens=PROMPT[:20], profile=profile)
    with pytest.raises(kvcap.KvcapError) as refused:
        kv.load_into(model, tmp_path / "a.kvcap", profile=kvcap.Profile(**settings))
    assert refused.value.code // 100 == 6
