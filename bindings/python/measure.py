"""Costs of kvcap.vllm and kvcap.lmcache beside what they stand for: `./run --measure`. Prints tables for docs/results/live.md.

vLLM: a Llama of random weights in SmolLM2-135M's shape, 2,000 tokens; what a weight is changes no time. Each way in a
fresh process, median of three; the prefix cache of the engine is off, so that nothing else is reused.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import kvcap

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
PROMPT = [(at * 7919 + 13) % 4000 + 50 for at in range(2000)]

ENGINE = """
import json, sys, time
job = json.load(open(sys.argv[1]))
from vllm import LLM, SamplingParams
llm = LLM(job["model"], seed=0, enforce_eager=True, block_size=32, max_model_len=2304, dtype="bfloat16",
          **job["engine"])
def ask(prompt, params):
    extra = {"kv_transfer_params": params} if params else None
    sampling = SamplingParams(temperature=0, max_tokens=1, extra_args=extra)
    start = time.monotonic()
    out = llm.generate({"prompt_token_ids": prompt}, sampling, use_tqdm=False)[0]
    return time.monotonic() - start, out.num_cached_tokens
ask(list(range(60, 160)), None)
rounds = []
for params in job["requests"]:
    if job["reset"]:
        llm.reset_prefix_cache()
    rounds.append(ask(job["prompt"], params))
    time.sleep(0.3)
json.dump(rounds, open(sys.argv[1] + ".answers", "w"))
"""


def model(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=4096, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=4096)
    torch.manual_seed(1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((ROOT / "tests/live/model" / file).read_bytes())


def engine(place, requests, connector=None, reset=False):
    job = place / "job.json"
    options = {"enable_prefix_caching": reset} | ({"kv_transfer_config": connector} if connector else {})
    job.write_text(json.dumps({"model": str(place / "model"), "engine": options, "requests": requests,
                               "prompt": PROMPT, "reset": reset}))
    more = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ENGINE, str(job)], env=os.environ | more,
                          capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:200]
    return json.loads((place / "job.json.answers").read_text())


def row(name, rounds):
    if isinstance(rounds, str):
        print(f"| {name} | {rounds} | |")
        return
    print(f"| {name} | {statistics.median(took for took, _ in rounds):.3f} | {rounds[-1][1]} |")


def vllm(place):
    model(place / "model")
    names = {"sign_key": "issuer.key", "wrap_key": "reader.key", "trust": "issuer.key.pub"}
    profile = {name: str(place / file) for name, file in names.items()} | {"ttl": "1h"}
    ours = {"kv_connector": "KvcapConnector", "kv_connector_module_path": "kvcap.vllm", "kv_role": "kv_both",
            "kv_connector_extra_config": {"profile": profile, "folder": str(place)}}
    print("| vLLM, 2,000 tokens | seconds to the first token | tokens reused |\n|---|---|---|")
    row("computed", engine(place, [None] * ROUNDS))
    row("computed, and sealed", engine(place, [{"kvcap": {"seal": f"{n}.kvcap"}} for n in range(ROUNDS)], ours))
    row("its capsule opened (KvcapConnector)", engine(place, [{"kvcap": {"open": "0.kvcap"}}] * ROUNDS, ours))
    example = {"kv_connector": "ExampleConnector", "kv_role": "kv_both",
               "kv_connector_extra_config": {"shared_storage_path": str(place / "example")}}
    engine(place, [None], example)
    row("vLLM's ExampleConnector: files in the clear", engine(place, [None] * ROUNDS, example))
    offload = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
               "kv_connector_extra_config": {"cpu_bytes_to_use": 1 << 30}}
    rounds = engine(place, [None] * (ROUNDS + 1), offload, reset=True)
    row("vLLM's OffloadingConnector: memory of the same process", rounds if isinstance(rounds, str) else rounds[1:])
    size = (place / "0.kvcap").stat().st_size
    print(f"\nThe capsule has {size:,} bytes.\n")


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
    print(f"| LMCache, a chunk of {size:,} bytes | store, ms | load, ms |\n|---|---|---|")
    for name in ("`aesgcm`, 256 bits", "capsule"):
        times = []
        for call in ways[name]:
            took = []
            for _ in range(21):
                start = time.monotonic()
                call()
                took.append(time.monotonic() - start)
            times.append(f"{1000 * statistics.median(took[1:]):.1f}")
        assert bytes(out.byte_array) == bytes(plain.numpy())
        out.raw_data.zero_()
        print(f"| {name} | {' | '.join(times)} |")


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = str(place / "home")
        kvcap.new_signing_key(place / "issuer.key", issuer="prefill.example.com")
        kvcap.new_wrapping_key(place / "reader.key")
        name = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
        print(f"{name}, {os.cpu_count()} cores, {platform.system()}, load average {os.getloadavg()[0]:.1f}\n")
        vllm(place)
        lmcache(place)


if __name__ == "__main__":
    main()
