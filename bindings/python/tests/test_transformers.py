"""Caches of transformers in memory against the file of runtimes-v1 §4, and words that go on."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvcap
from conftest import ROOT

if importlib.util.find_spec("transformers") is None:
    pytest.skip("NOT RUN: transformers' caches, which ./run without --short has", allow_module_level=True)

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache

from kvcap import transformers as kv

sys.path.insert(0, str(ROOT / "tests/live"))
from live import kinds
from live.transformers_runtime import Runtime

MODEL = ROOT / "tests/live/model"
PROMPT = json.loads((MODEL / "prompts.json").read_text())["rustdoc"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model folders by kind of layer."""
    made = kinds.make("transformers", tmp_path_factory.mktemp("models"))
    return {"full": str(MODEL)} | {name: environment["model"] for name, environment in made.items()}


def profile_of(settings, model):
    return kvcap.Profile(**settings | {"model": model})


def prefilled(runtime, tokens):
    """What a process holds that has read these tokens, in two steps."""
    runtime.clear()
    runtime.logits(tokens[:40])
    runtime.logits(tokens[40:])
    return runtime.cache


@pytest.mark.parametrize("kind", ["full", "sliding window", "recurrent", "convolution"])
def test_a_cache_is_the_file_that_would_be_saved_and_goes_on_alike(models, settings, tmp_path, kind):
    runtime = Runtime({"model": models[kind]})
    tokens, more = PROMPT[:100], PROMPT[100:120]
    cache = prefilled(runtime, tokens)
    runtime.save(tmp_path / "state.safetensors", tokens)
    content = (tmp_path / "state.safetensors").read_bytes()
    assert bytes(kv.as_file(cache)) == content

    profile = profile_of(settings, models[kind])
    made = kv.save(cache, tmp_path / "a.kvcap", tokens=[*tokens, 1, 2], profile=profile)
    by_file = kvcap.seal(tmp_path / "state.safetensors", profile=profile, tokens=tokens, runtime_version=transformers.__version__)
    assert (made.length, made.positions) == (by_file.length, by_file.positions)
    assert kvcap.open(tmp_path / "a.kvcap", profile=profile).state == content

    uninterrupted = runtime.logits(more)
    loaded = kv.load_into(runtime.model, tmp_path / "a.kvcap", profile=profile)
    assert loaded.tokens == tokens
    runtime.cache = loaded.cache
    assert (runtime.logits(more) == uninterrupted).all()
    with pytest.raises(ValueError, match="not empty"):
        kv.load_into(runtime.model, tmp_path / "a.kvcap", cache=loaded.cache, profile=profile)


@pytest.mark.parametrize("kind", ["full", "sliding window"])
@pytest.mark.parametrize("length", [30, 47, 48, 49, 100])
def test_static_caches_give_the_same_capsule_and_take_it(models, settings, tmp_path, kind, length):
    runtime = Runtime({"model": models[kind]})
    profile, tokens, more = profile_of(settings, models[kind]), PROMPT[:length], PROMPT[length : length + 20]
    runtime.clear()
    runtime.logits(tokens)
    dynamic = bytes(kv.as_file(runtime.cache))
    runtime.cache = StaticCache(config=runtime.model.config, max_cache_len=256)
    runtime.logits(tokens)
    static = bytes(kv.as_file(runtime.cache))
    # attention over a longer cache adds up in another order: the same layout, and numbers that are close
    data = 8 + int.from_bytes(static[:8], "little")
    assert static[:data] == dynamic[:data]
    kv.save(runtime.cache, tmp_path / "a.kvcap", tokens=tokens, profile=profile)
    uninterrupted = runtime.logits(more)
    empty = StaticCache(config=runtime.model.config, max_cache_len=256)
    runtime.cache = kv.load_into(runtime.model, tmp_path / "a.kvcap", cache=empty, profile=profile).cache
    assert bytes(kv.as_file(runtime.cache)) == static
    assert (runtime.logits(more) == uninterrupted).all()


def test_what_is_not_understood_is_refused_by_name(models, settings, tmp_path):
    class SurprisingLayer:
        keys = values = None

    cache = DynamicCache()
    cache.layers.append(SurprisingLayer())
    with pytest.raises(TypeError, match="SurprisingLayer"):
        kv.as_file(cache)


def test_the_readmes_lines_save_and_resume(tmp_path):
    """In a process each, with nothing of this user's but a home, as its readers run them."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    save, resume = re.findall(r"```python\n(.*?)```", readme, re.S)[:2]
    head = f"""
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
MODEL = {str(MODEL)!r}
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL).eval()
inputs = tokenizer("A key and a value are computed for each token.", return_tensors="pt")
"""
    middle = "\nimport json; json.dump(output[0].tolist(), open('said.json', 'w'))\n"
    run(tmp_path, head + save + middle)
    said = json.loads((tmp_path / "said.json").read_text())
    new = f"\nimport kvcap\nfrom kvcap import transformers as kv\nnew = {said[-1:]} + [17, 18]\n"
    resumed = run(tmp_path, head + new + resume + "\nprint(json.dumps(output[0].tolist()))\n", "import json\n")
    whole = f"""
cache = DynamicCache(config=model.config)
ids = torch.tensor([{said} + [17, 18]])
output = model.generate(ids, past_key_values=cache, max_new_tokens=16, do_sample=False)
print(json.dumps(output[0].tolist()))
"""
    assert json.loads(resumed) == json.loads(run(tmp_path, head + whole, "import json\n"))


def run(folder, code, before=""):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", before + code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


MEMORY = """
import sys, time, torch, kvcap
from transformers import AutoConfig, DynamicCache
from kvcap import transformers as kv
folder, tokens = sys.argv[1], 8192
config = AutoConfig.from_pretrained(folder + "/model")
torch.manual_seed(1)
cache = DynamicCache(config=config)
for layer in range(config.num_hidden_layers):
    # as a model gives them: heads and tokens exchanged, which no copy undoes
    pair = [torch.randn(1, tokens, 8, 128).to(torch.bfloat16).transpose(1, 2) for _ in "kv"]
    cache.layers[layer].lazy_initialization(*pair)
    cache.layers[layer].keys, cache.layers[layer].values = pair
del pair
size = sum(t.numel() * 2 for layer in cache.layers for t in (layer.keys, layer.values))
profile = kvcap.Profile(**{name: folder + "/" + path for name, path in (
    ("sign_key", "issuer.key"), ("wrap_key", "reader.key"), ("trust", "issuer.key.pub"), ("model", "model"))}, ttl="1h")
ids = [at % config.vocab_size for at in range(tokens)]
kv.save(cache, folder + "/warm.kvcap", tokens=ids, profile=profile)
open("/proc/self/clear_refs", "w").write("5")
def memory(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) << 10
before, start = memory("VmRSS"), time.monotonic()
kv.save(cache, folder + "/a.kvcap", tokens=ids, profile=profile)
print(size, memory("VmHWM") - before, time.monotonic() - start)
"""


@pytest.mark.skipif("KVCAP_FULL" not in os.environ, reason="NOT RUN: of a module that is not optimized; ./run --full has it")
def test_sealing_takes_no_memory_beside_the_cache(keys):
    """A cache of 403 MB: at most 64 MB more while it is sealed."""
    config = LlamaConfig(vocab_size=4096, hidden_size=1024, intermediate_size=64, num_hidden_layers=12,
                         num_attention_heads=8, num_key_value_heads=8, head_dim=128, max_position_embeddings=8192)
    torch.manual_seed(1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(keys / "model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(MODEL / file, keys / "model" / file)
    done = run(keys, MEMORY.replace("sys.argv[1]", repr(str(keys))))
    size, more, _ = done.split()
    assert int(size) > 400_000_000 and int(more) < 64 << 20, done
