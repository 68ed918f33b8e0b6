"""KvcapConnector in vLLM on the CPU: processes that seal, are gone, and go on; and what must not restore."""

import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

import kvcap
from conftest import ROOT

if importlib.util.find_spec("vllm") is None:
    pytest.skip("NOT RUN: vLLM, which ./run --vllm has", allow_module_level=True)

sys.path.insert(0, str(ROOT / "tests/live"))
from live import environments

MODEL = ROOT / "tests/live/model"
PROMPTS = json.loads((MODEL / "prompts.json").read_text())
PROMPT, OTHER = PROMPTS["rustdoc"][:1000], PROMPTS["python"][:1000]
#: whole blocks of 32 rows that a prompt of 1,000 has beside its last token
WHOLE = 992

ENGINE = """
import json, sys
job = json.load(open(sys.argv[1]))
from vllm import LLM, SamplingParams
llm = LLM(seed=0, enforce_eager=True, block_size=32, max_model_len=2048, dtype="bfloat16", **job["engine"])
answers = []
for request in job["requests"]:
    prompt = {"prompt_token_ids": request["prompt"]}
    if "salt" in request:
        prompt["cache_salt"] = request["salt"]
    params = {"kv_transfer_params": {"kvcap": request["kvcap"]}} if request.get("kvcap") else None
    lora = None
    if "lora" in request:
        from vllm.lora.request import LoRARequest
        lora = LoRARequest("adapter", 1, request["lora"])
    sampling = SamplingParams(temperature=0, max_tokens=request.get("steps", 16), extra_args=params)
    out = llm.generate(prompt, sampling, use_tqdm=False, lora_request=lora)[0]
    said = (out.kv_transfer_params or {}).get("kvcap")
    answers.append({"tokens": list(out.outputs[0].token_ids), "cached": out.num_cached_tokens, "kvcap": said})
json.dump(answers, open(sys.argv[1] + ".answers", "w"))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Keys, settings, and a folder of capsules, of all engines here."""
    folder = tmp_path_factory.mktemp("vllm")
    kvcap.new_signing_key(folder / "issuer.key", issuer="prefill.example.com")
    kvcap.new_wrapping_key(folder / "reader.key")
    (folder / "capsules").mkdir()
    return folder


def settings(place, **more):
    names = {"sign_key": "issuer.key", "wrap_key": "reader.key", "trust": "issuer.key.pub"}
    return {name: str(place / file) for name, file in names.items()} | {"ttl": "1h"} | more


def engine(place, requests, model=MODEL, profile=None, **options):
    """Answers of a fresh process that runs an engine."""
    connector = {
        "kv_connector": "KvcapConnector",
        "kv_connector_module_path": "kvcap.vllm",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "profile": profile or settings(place),
            "folder": str(place / "capsules"),
        },
    }
    job = place / "job.json"
    made = {"model": str(model), "kv_transfer_config": connector} | options
    job.write_text(json.dumps({"engine": made, "requests": requests}))
    more = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENGINE, str(job)], env=os.environ | more, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((place / "job.json.answers").read_text())


@pytest.fixture(scope="module")
def live(place):
    """What the engine says that computes all of it, and the capsules that it leaves."""
    bad = {"kvcap": {"seal": "../out.kvcap"}, "prompt": OTHER, "steps": 1}
    salted = {"prompt": PROMPT, "salt": "ana", "kvcap": {"seal": "ana.kvcap"}}
    again = {"prompt": PROMPT, "kvcap": {"seal_base64": True}, "steps": 1}
    answers = engine(place, [{"prompt": PROMPT, "kvcap": {"seal": "a.kvcap"}}, bad, salted, again])
    brief = settings(place, ttl="1s")
    engine(place, [{"prompt": PROMPT, "kvcap": {"seal": "expired.kvcap"}, "steps": 1}], profile=brief)
    return answers


def test_another_process_goes_on_from_the_capsule(place, live):
    sealed = live[0]["kvcap"]["sealed"]
    assert sealed["positions"] == 1015 and live[0]["cached"] == 0
    seen = PROMPT + live[0]["tokens"][:-1]
    text = live[3]["kvcap"]["sealed"]["base64"]
    opened, as_text = engine(
        place,
        [
            {"prompt": seen + live[0]["tokens"][-1:], "kvcap": {"open": "a.kvcap"}, "steps": 1},
            {"prompt": PROMPT + [7, 8, 9], "salt": "none", "kvcap": {"open_base64": text}, "steps": 1},
        ],
    )
    # 1,015 positions are 31 whole blocks; the rest is evaluated
    assert (opened["cached"], opened["kvcap"]["restored"]) == (WHOLE, WHOLE)
    assert as_text["cached"] == WHOLE
    [whole] = engine(place, [{"prompt": seen + live[0]["tokens"][-1:], "steps": 1}])
    assert whole["tokens"] == opened["tokens"]


def test_a_prompt_that_begins_alike_takes_what_is_common(place, live):
    """The same again, and one that is edited in the middle of a block: rows see what is before them alone."""
    edited = PROMPT[:500] + OTHER[500:]
    prompts = [{"prompt": prompt, "kvcap": {"open": "a.kvcap"}, "steps": 4} for prompt in (PROMPT, edited)]
    again, other = engine(place, prompts, enable_prefix_caching=False)
    assert (again["cached"], again["tokens"]) == (WHOLE, live[0]["tokens"][:4])
    assert other["cached"] == 480 and "code" not in other["kvcap"]
    [cold] = engine(place, [{"prompt": edited, "steps": 4}], enable_prefix_caching=False)
    assert cold["tokens"] == other["tokens"]


def test_a_capsule_holds_the_rows_that_transformers_computes(place, live):
    """Whatever the order is in which the engine's cache keeps them."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    from kvcap import _rows

    profile = kvcap.Profile(**settings(place, model=str(MODEL)))
    length, layers = _rows.layers(kvcap.open(place / "capsules/a.kvcap", profile=profile).state)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16).eval()
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=torch.tensor([PROMPT]), past_key_values=cache)
    assert length == 1015 and len(layers) == len(cache.layers)
    for (keys, values), layer in zip(layers, cache.layers, strict=True):
        for mine, own in ((keys, layer.keys), (values, layer.values)):
            assert torch.nn.functional.cosine_similarity(
                mine[:, :, :1000].float().flatten(), own.float().flatten(), dim=0
            ) > 0.99


def adapter(folder):
    """A LoRA of rank 4 on every value projection, in PEFT's layout."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 32, "target_modules": ["v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    tensors = {}
    for layer in range(6):
        module = f"base_model.model.model.layers.{layer}.self_attn.v_proj"
        tensors[f"{module}.lora_A.weight"] = torch.full((4, 256), 0.01)
        tensors[f"{module}.lora_B.weight"] = torch.full((128, 4), 0.01)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def altered(place):
    capsule = (place / "capsules/a.kvcap").read_bytes()
    (place / "capsules/truncated.kvcap").write_bytes(capsule[: len(capsule) * 3 // 4])
    flipped = bytearray(capsule)
    flipped[len(capsule) * 3 // 4] ^= 1
    (place / "capsules/flipped.kvcap").write_bytes(flipped)
    profile = kvcap.Profile(**settings(place, model=str(MODEL)))
    opened = kvcap.open(capsule, profile=profile)
    version = {"runtime": "hf", "runtime_version": "vllm-0.0.1", "tokens": opened.tokens}
    kvcap.seal(opened.state, place / "capsules/version.kvcap", profile=profile, **version)


def test_what_must_not_restore_is_computed_as_if_it_were_not_there(place, live, tmp_path):
    altered(place)
    inside = kvcap.inspect(place / "capsules/expired.kvcap").expires
    time.sleep(max(0, inside - time.time()) + 1)
    longer = PROMPT + live[0]["tokens"]
    cases = [
        (605, {"prompt": OTHER + OTHER[:20], "kvcap": {"open": "a.kvcap"}}),
        (402, {"prompt": longer, "kvcap": {"open": "expired.kvcap"}}),
        (807, {"prompt": longer, "kvcap": {"open": "truncated.kvcap"}}),
        (805, {"prompt": longer, "kvcap": {"open": "flipped.kvcap"}}),
        (608, {"prompt": longer, "kvcap": {"open": "version.kvcap"}}),
        (406, {"prompt": longer, "kvcap": {"open": "ana.kvcap"}}),
        (406, {"prompt": longer, "salt": "bob", "kvcap": {"open": "ana.kvcap"}}),
        (940, {"prompt": longer, "kvcap": {"open": "missing.kvcap"}}),
        (944, {"prompt": longer, "kvcap": {"open": "../capsules/a.kvcap"}}),
        (944, {"prompt": longer, "kvcap": {"open_base64": "!"}}),
    ]
    requests = [request for _, request in cases]
    answers = engine(place, requests, enable_prefix_caching=False)
    cold = engine(place, [{**request, "kvcap": None} for request in requests], enable_prefix_caching=False)
    for (code, request), answer, from_nothing in zip(cases, answers, cold, strict=True):
        assert answer["kvcap"]["code"] == code, (request["kvcap"], answer)
        assert answer["kvcap"]["restored"] == answer["cached"] == 0
        assert answer["tokens"] == from_nothing["tokens"]


@pytest.mark.parametrize(
    ("name", "code", "options"),
    [
        ("weights", 601, {}),
        ("words", 602, {}),
        ("rope", 601, {}),
        ("base", 603, {"hf_overrides": {"rope_parameters": {"rope_theta": 20000.0, "rope_type": "default"}}}),
        ("base", 601, {"enable_lora": True}),
        ("base", 604, {"dtype": "float32"}),
    ],
)
def test_an_engine_that_computes_something_else_restores_nothing(place, live, tmp_path, name, code, options):
    made = environments.make("vllm", tmp_path / "models")
    longer = PROMPT + live[0]["tokens"]
    request = {"prompt": longer, "kvcap": {"open": "a.kvcap"}, "steps": 1}
    if "enable_lora" in options:
        request["lora"] = str(adapter(tmp_path / "adapter"))
    [answer] = engine(place, [request], model=made[name]["model"], **options)
    assert (answer["kvcap"]["code"], answer["cached"]) == (code, 0), answer


def test_the_bound_salt_is_the_one_that_restores(place, live):
    longer = PROMPT + live[2]["tokens"]
    [answer] = engine(place, [{"prompt": longer, "salt": "ana", "kvcap": {"open": "ana.kvcap"}, "steps": 1}])
    assert answer["cached"] == WHOLE
    assert live[1]["kvcap"]["code"] == 944 and not (place / "out.kvcap").exists()
