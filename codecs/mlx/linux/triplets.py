"""Capsules of an mlx-lm cache as mlx-lm's own quantized cache, judged by MLX and mlx-lm for Python.

    PYTHONPATH=<packages of python.txt> python3 triplets.py KVCAP FIXTURES
"""

import json
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import mlx.core as mx


def mlx_lm_caches():
    """mlx-lm's caches without the rest of mlx-lm, which wants half of PyPI."""
    import importlib.util

    package = types.ModuleType("mlx_lm")
    package.__path__ = importlib.util.find_spec("mlx_lm").submodule_search_locations
    sys.modules["mlx_lm"] = package
    from mlx_lm.models import cache

    return cache


def bits(array):
    return array.view({2: mx.uint16, 4: mx.uint32}[array.dtype.size])


def same(one, other):
    return one.dtype == other.dtype and mx.array_equal(bits(one), bits(other)).item()


def decoded(triplet, group, width, dtype):
    """codecs-v1 §6.3 with MLX's dequantize: exact, because the scales are binary32 in it."""
    codes, scales, biases = triplet
    y = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group, width)
    largest = mx.finfo(dtype).max
    return mx.clip(y, -largest, largest).astype(dtype)


def tensors(path):
    """The caches of a file of the older layout: codes, scales and biases of each layer and slot."""
    arrays, metadata = mx.load(str(path), return_metadata=True)
    layers = sorted({int(name.split(".")[0]) for name in arrays})
    slot = lambda layer, at: [arrays[f"{layer}.{at}.{part}"] for part in range(3)]
    return [[slot(layer, at) for at in range(2)] for layer in layers], metadata


def wide(fixtures, folder):
    """A state of heads of 128, for groups of 128, and a model that has such heads."""
    name = "mlx032_f16"
    arrays, metadata = mx.load(str(fixtures / f"{name}.safetensors"), return_metadata=True)
    arrays = {key: mx.concatenate([rows, rows * -0.5], -1) if rows.ndim == 4 else rows for key, rows in arrays.items()}
    mx.save_safetensors(str(folder / f"{name}_wide.safetensors"), arrays, metadata)
    shutil.copytree(fixtures / "model", folder / "model")
    config = folder / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"head_dim": 128}))
    return folder / f"{name}_wide.safetensors", folder / "model"


def main(kvcap, fixtures):
    load_prompt_cache = mlx_lm_caches().load_prompt_cache
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def run(*arguments):
            subprocess.run([kvcap, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

        run("keygen", "sign", "-o", folder / "sign")
        run("keygen", "wrap", "-o", folder / "wrap")

        # Without the guard: mlx-lm has one width for a layer's keys and values.
        def seal(state, capsule, encoding, model=fixtures / "model"):
            codec = ["--keys", encoding, "--values", encoding] if "_" in encoding else ["--encoding", encoding]
            run("seal", state, "-o", capsule, "--model", model, "--sign-key", folder / "sign", "--wrap-key", folder / "wrap",
                "--ttl", "1h", *codec, "--guard", "off", "--danger-no-prefix")

        def open_(capsule, out, *more, model=fixtures / "model"):
            run("open", capsule, "-o", out, "--model", model, "--trust", folder / "sign.pub",
                "--wrap-key", folder / "wrap", *more)
            return out

        kinds = [("q8", 8, 64), ("q4", 4, 64), ("q8_g32", 8, 32), ("q4_g32", 4, 32)]
        states = [(fixtures / f"{name}.safetensors", fixtures / "model", kinds) for name in ["mlx032_f16", "mlx031_f16"]]
        states.append((*wide(fixtures, folder), [("q8_g128", 8, 128), ("q4_g128", 4, 128)]))
        for state, model, kinds in states:
            name = state.stem
            exact = folder / f"{name}.exact.kvcap"
            seal(state, exact, "exact", model)
            for encoding, width, group in kinds:
                kind = f"q{width}_g{group}"
                here = folder / f"{name}-{kind}"
                capsule = here.with_suffix(".kvcap")
                seal(state, capsule, encoding, model)
                plain = open_(capsule, here.with_suffix(".plain.safetensors"), model=model)
                quantized = open_(capsule, here.with_suffix(".safetensors"), "--kv-type", kind, model=model)
                # An exact bank is quantized to the same triplets.
                straight = open_(exact, here.with_suffix(".straight.safetensors"), "--kv-type", kind, model=model)
                assert straight.read_bytes() == quantized.read_bytes(), (name, kind)
                arrays = mx.load(str(plain))
                if name.startswith("mlx032"):
                    caches = load_prompt_cache(str(quantized))
                    for cache in caches:
                        assert type(cache).__name__ == "QuantizedKVCache", cache
                        assert (cache.bits, cache.group_size) == (width, group), vars(cache)
                    pairs = [[cache.keys, cache.values] for cache in caches]
                    tokens = [cache.offset for cache in caches]
                    assert tokens == [cache.offset for cache in load_prompt_cache(str(plain))]
                else:
                    pairs, metadata = tensors(quantized)
                    tokens = [int(metadata[f"0.{layer}.0"]) for layer in range(len(pairs))]
                # The quantized cache is a state of its own: carried as it is, or made plain.
                verbatim = here.with_suffix(".verbatim.kvcap")
                seal(quantized, verbatim, "exact", model)
                back = open_(verbatim, here.with_suffix(".back.safetensors"), model=model)
                assert back.read_bytes() == quantized.read_bytes(), (name, kind)
                floats = open_(verbatim, here.with_suffix(".f16.safetensors"), "--kv-type", "f16", model=model)
                floats = mx.load(str(floats))
                for layer, (pair, rows) in enumerate(zip(pairs, tokens, strict=True)):
                    for at, triplet in enumerate(pair):
                        theirs = decoded(triplet, group, width, mx.float16)[..., :rows, :]
                        for ours in arrays, floats:
                            ours = ours[f"{layer}.{at}"][..., :rows, :]
                            assert rows > 0 and same(ours, theirs), (name, kind, layer, at)
                            compared += 1

        # A cache that MLX quantized by itself: as it is, and plain.
        original = fixtures / "mlx032_q4.safetensors"
        capsule = folder / "theirs.kvcap"
        seal(original, capsule, "exact")
        back = load_prompt_cache(str(open_(capsule, folder / "theirs.safetensors")))
        plain = load_prompt_cache(str(open_(capsule, folder / "plain.safetensors", "--kv-type", "f16")))
        for ours, floats, theirs in zip(back, plain, load_prompt_cache(str(original)), strict=True):
            rows = theirs.offset
            for mine, other in zip(ours.keys + ours.values, theirs.keys + theirs.values, strict=True):
                assert mx.array_equal(mine[..., :rows, :], other[..., :rows, :]).item()
                compared += 1
            assert type(floats).__name__ == "KVCache" and floats.offset == rows, floats
            for mine, triplet in [(floats.keys, theirs.keys), (floats.values, theirs.values)]:
                other = decoded(triplet, theirs.group_size, theirs.bits, mx.float16)
                assert same(mine[..., :rows, :], other[..., :rows, :])
                compared += 1
    assert compared == (2 * 4 + 2) * 12 * 2 + 36 + 12, compared
    print(f"triplets: {compared} arrays equal, with mlx {mx.__version__}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
