"""KvcapConnector in vLLM on the CPU: processes that seal, are gone, and go on; and what must not restore."""

import importlib.util
import json
import sys
import time

import pytest

import kvcap
from conftest import ROOT

if importlib.util.find_spec("vllm") is None:
    pytest.skip("NOT RUN: vLLM, which ./run --vllm has", allow_module_level=True)

sys.path.insert(0, str(ROOT / "tests/live"))
from live import environments
from live.vllm_engine import Engine, connector

MODEL = ROOT / "tests/live/model"
PROMPTS = json.loads((MODEL / "prompts.json").read_text())
PROMPT, OTHER = PROMPTS["rustdoc"][:1000], PROMPTS["python"][:1000]
#: whole blocks of 32 rows that a prompt of 1,000 has beside its last token
WHOLE = 992


def settings(place, **more):
    names = {"sign_key": "issuer.key", "wrap_key": "reader.key", "trust": "issuer.key.pub"}
    return {name: str(place / file) for name, file in names.items()} | {"ttl": "1h"} | more


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Keys, settings, and a folder of capsules, of all engines here."""
    folder = tmp_path_factory.mktemp("vllm")
    kvcap.new_signing_key(folder / "issuer.key", issuer="prefill.example.com")
    kvcap.new_wrapping_key(folder / "reader.key")
    (folder / "capsules").mkdir()
    return folder


def engine(place, model=MODEL, **options):
    """A process of its own: each takes tens of seconds to begin, so that tests share those of one kind."""
    return Engine(model, connector(settings(place), place / "capsules"), **options)


@pytest.fixture(scope="module")
def live(place):
    """What an engine says that computes all of it, and the capsules that it leaves; it is gone then."""
    with engine(place) as first:
        return {
            "whole": first.ask(PROMPT, 16, kvcap={"seal": "a.kvcap"}),
            "bad name": first.ask(OTHER, kvcap={"seal": "../out.kvcap"}),
            "salted": first.ask(PROMPT, 16, salt="ana", kvcap={"seal": "ana.kvcap"}),
            "as text": first.ask(PROMPT, kvcap={"seal_base64": True}),
        }


@pytest.fixture(scope="module")
def other(place, live):
    """An engine in another process, which shares nothing with the first but the files."""
    with engine(place) as fresh:
        yield fresh


def test_another_process_goes_on_from_the_capsule(live, other):
    assert (live["whole"]["said"]["sealed"]["positions"], live["whole"]["cached"]) == (1015, 0)
    seen = PROMPT + live["whole"]["tokens"]
    opened = other.ask(seen, 4, kvcap={"open": "a.kvcap"})
    # 1,015 positions are 31 whole blocks; the rest is evaluated
    assert (opened["cached"], opened["said"]["restored"]) == (WHOLE, WHOLE)
    assert other.ask(seen, 4)["tokens"] == opened["tokens"]
    text = live["as text"]["said"]["sealed"]["base64"]
    assert other.ask(PROMPT + [7, 8, 9], salt="none", kvcap={"open_base64": text})["cached"] == WHOLE


def test_a_prompt_that_begins_alike_takes_what_is_common(live, other):
    """The same again, and one that is edited in the middle of a block: rows see what is before them alone."""
    again = other.ask(PROMPT, 4, kvcap={"open": "a.kvcap"})
    assert (again["cached"], again["tokens"]) == (WHOLE, live["whole"]["tokens"][:4])
    edited = PROMPT[:500] + OTHER[500:]
    common = other.ask(edited, 4, kvcap={"open": "a.kvcap"})
    assert common["cached"] == 480 and "code" not in common["said"]
    assert other.ask(edited, 4)["tokens"] == common["tokens"]


def test_the_bound_salt_is_the_one_that_restores(place, live, other):
    longer = PROMPT + live["salted"]["tokens"]
    assert other.ask(longer, salt="ana", kvcap={"open": "ana.kvcap"})["cached"] == WHOLE
    assert live["bad name"]["said"]["code"] == 944 and not (place / "out.kvcap").exists()


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


def altered(place, version):
    """Capsules that must not restore, made of the one that does."""
    folder = place / "capsules"
    capsule = (folder / "a.kvcap").read_bytes()
    (folder / "truncated.kvcap").write_bytes(capsule[: len(capsule) * 3 // 4])
    flipped = bytearray(capsule)
    flipped[len(capsule) * 3 // 4] ^= 1
    (folder / "flipped.kvcap").write_bytes(flipped)
    opened = kvcap.open(capsule, profile=kvcap.Profile(**settings(place, model=str(MODEL))))
    for name, version_, ttl in (("version", "vllm-0.0.1", "1h"), ("expired", f"vllm-{version}", "1s")):
        profile = kvcap.Profile(**settings(place, model=str(MODEL), ttl=ttl))
        said = {"runtime": "hf", "runtime_version": version_, "tokens": opened.tokens}
        made = kvcap.seal(opened.state, folder / f"{name}.kvcap", profile=profile, **said)
    time.sleep(max(0, made.expires - time.time()) + 1)


def test_what_must_not_restore_is_computed_as_if_it_were_not_there(place, live, other):
    altered(place, other.version)
    longer = PROMPT + live["whole"]["tokens"]
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
    for code, request in cases:
        answer = other.ask(steps=4, **request)
        assert answer["said"]["code"] == code, (request["kvcap"], answer)
        assert answer["said"]["restored"] == answer["cached"] == 0
        assert answer["tokens"] == other.ask(steps=4, **request | {"kvcap": None})["tokens"]


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
    lora = {"lora": str(environments.for_peft(tmp_path / "adapter"))} if "enable_lora" in options else {}
    with engine(place, made[name]["model"], **options) as another:
        answer = another.ask(PROMPT + live["whole"]["tokens"], kvcap={"open": "a.kvcap"}, **lora)
    assert (answer["said"]["code"], answer["cached"]) == (code, 0), answer
