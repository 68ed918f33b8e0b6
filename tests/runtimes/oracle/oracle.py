"""Asks transformers' own configuration classes what a config.json means.

Writes the table of class defaults that the reader of model folders uses, and the facts of generated
configurations that its tests compare with. Needs transformers without torch: the functions that
compute frequencies are executed out of its source with numpy in torch's place.
"""

import ast
import contextlib
import copy
import functools
import json
import logging
import math
import pathlib
import re
import sys

import numpy
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

logging.disable(logging.CRITICAL)

VERSION = "5.24.0"
HERE = pathlib.Path(__file__).resolve().parent
SOURCE = pathlib.Path(transformers.__file__).parent
TABLE = HERE.parents[2] / "runtimes/models/src/families/transformers.tsv"
CASES = HERE / "cases.tsv"

FAMILIES = """apertus arcee bitnet bloom codegen cohere cohere2 dbrx deepseek_v2 deepseek_v3 deepseek_v32 dots1
ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1 falcon_mamba gemma gemma2 gemma3_text gemma3n_text gemma4_text glm glm4
glm4_moe glm4_moe_lite gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid
granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe internlm3 jamba kimi_linear lfm2 lfm2_moe llama llama4_text
longcat_flash mamba mamba2 minicpm3 minimax minimax_m2 ministral ministral3 mistral mistral4 mixtral mpt nemotron
nemotron_h olmo olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_5_vl_text qwen2_moe qwen2_vl_text qwen3
qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text rwkv seed_oss smollm3 stablelm
starcoder2""".split()

# Outer classes, whose language model stands in text_config.
OUTER = dict(gemma3="gemma3_text", llama4="llama4_text", mistral3="mistral", qwen2_vl="qwen2_vl_text",
             qwen2_5_vl="qwen2_5_vl_text", qwen3_vl="qwen3_vl_text", qwen3_vl_moe="qwen3_vl_moe_text",
             qwen3_5="qwen3_5_text", qwen3_5_moe="qwen3_5_moe_text")
LATENT = {"deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "kimi_linear", "longcat_flash", "minicpm3",
          "mistral4"}
# Each n-th layer is one of full attention where the class is not told otherwise; executed for 1 to 40 layers below.
EVERY = dict(cohere2=4, exaone4=4, gemma2=2, gemma3_text=6, gemma3n_text=5, gemma4_text=6, gpt_oss=2, llama4_text=4,
             olmo3=4, qwen3_5_moe_text=4, qwen3_5_text=4, qwen3_next=4)


class Array(numpy.ndarray):
    def to(self, *_, **__):
        return self

    def float(self):
        return self


class Torch:
    """As much of torch as the functions for frequencies use, in binary64."""

    float = float32 = int64 = long = None

    @staticmethod
    def arange(*bounds, **_):
        return numpy.arange(*bounds, dtype=numpy.float64).view(Array)

    @staticmethod
    def tensor(values, **_):
        return numpy.asarray(values, dtype=numpy.float64).view(Array)

    @staticmethod
    def clamp(value, low, high):
        return numpy.clip(value, low, high)

    @staticmethod
    def zeros(count, **_):
        return numpy.zeros(count).view(Array)

    @staticmethod
    def cat(parts, dim=0):
        return numpy.concatenate(parts, axis=dim).view(Array)

    where = staticmethod(numpy.where)


@functools.cache
def function(path, name, prefer=None):
    """A function out of a file of transformers, without its decorators and annotations."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef) and node.name == name]
    for node in found:
        if prefer and any(a.annotation and prefer in ast.unparse(a.annotation).split(" ") for a in node.args.args):
            found = [node]
            break
    if not found:
        return None
    node = found[-1]
    node.decorator_list, node.returns = [], None
    for argument in node.args.args + node.args.kwonlyargs:
        argument.annotation = None
    space = {"torch": Torch, "math": math, "PreTrainedConfig": object}
    exec(compile(ast.Module([node], []), str(path), "exec"), space)
    return space[name]


layer_types_of = function(SOURCE / "cache_utils.py", "get_layer_types_and_kwargs")
ROPES = SOURCE / "modeling_rope_utils.py"
SCALED = {kind: function(ROPES, name) for kind, name in {
    "linear": "_compute_linear_scaling_rope_parameters", "yarn": "_compute_yarn_parameters",
    "longrope": "_compute_longrope_parameters", "llama3": "_compute_llama3_parameters",
    "proportional": "_compute_proportional_rope_parameters"}.items()}


def modeling(config):
    module = type(config).__module__.replace(".configuration_", ".modeling_").removeprefix("transformers.")
    return SOURCE / (module.replace(".", "/") + ".py")


def text_of(config):
    return config.text_config if getattr(config, "text_config", None) is not None else config


def allowed(config):
    if hasattr(config, "allow_global_per_layer_attribute_access"):
        with contextlib.suppress(Exception):
            config.allow_global_per_layer_attribute_access = True
    return config


def layer_config(config, index):
    try:
        return config.per_layer_config[index] if config.is_heterogeneous else config
    except Exception:
        return config


@functools.cache
def text(path):
    return path.read_text() if path.exists() else ""


def pairing(config):
    source = text(modeling(config))
    if "apply_rotary_pos_emb_interleave" in source:
        return "half"  # the function takes neighbours apart: what is kept is in halves
    return "interleaved" if re.search(r"view_as_complex|x\[.*0?::2\]|\[:, :, :, ::2\]", source) else "half"


def rope_of(config, index, kind):
    """Frequencies and factor of a layer's rope, None where it does not rotate."""
    name = config.model_type
    parameters = getattr(config, "rope_parameters", None)
    if name in ("codegen", "gptj"):
        dims = config.rotary_dim or config.hidden_size // config.num_attention_heads
        return 10000.0 ** (-numpy.arange(0, dims, 2) / dims), 1.0
    if not parameters or kind == "linear_attention" or kind == "conv":
        return None
    if name == "falcon" and config.alibi or name == "granitemoehybrid" and config.position_embedding_type != "rope":
        return None
    if getattr(config, "no_rope_layers", None) and not config.no_rope_layers[index]:
        return None
    if name == "cohere2" and kind != "sliding_attention":
        return None
    if name == "exaone4" and config.sliding_window is not None and kind != "sliding_attention":
        return None
    nested = any(isinstance(value, dict) for value in parameters.values())
    own = parameters[kind] if nested else parameters
    compute = SCALED.get(own["rope_type"])
    if own["rope_type"] == "dynamic" and own.get("alpha"):
        compute = function(modeling(config), "compute_ntk_alpha_rope_parameters")
    elif own["rope_type"] == "default":
        compute = function(modeling(config), "compute_default_rope_parameters", type(config).__name__)
    arguments = {"layer_type": kind} if nested else {}
    if own["rope_type"] == "longrope":
        arguments["seq_len"] = config.max_position_embeddings
    if nested and name == "gemma4_text":
        config = layer_config(config, index) if own["rope_type"] == "default" else config
    frequencies, factor = compute(config, **arguments)
    if "long_mscale" in own:
        over = config.max_position_embeddings > own["original_max_position_embeddings"]
        factor = own["long_mscale"] if over else own["short_mscale"]
    return numpy.asarray(frequencies, dtype=float), float(factor)


def runs(items):
    """Layers with one value, as `0-2,4`."""
    out, groups = [], {}
    for index, value in enumerate(items):
        groups.setdefault(value, []).append(index)
    for value, members in groups.items():
        if value is None:
            continue
        parts, start = [], members[0]
        for here, after in zip(members, members[1:] + [None]):
            if after != here + 1:
                parts.append(str(start) if start == here else f"{start}-{here}")
                start = after
        out.append(f"{','.join(parts)} {value}")
    return "; ".join(out)


def facts(config):
    """What each layer keeps, and how it rotates, as the class computes it."""
    config = allowed(text_of(config))
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError("not a decoder")
    name = config.model_type
    kinds, extra = layer_types_of(config)
    if not getattr(config, "layer_types", None) and "sliding_window" not in text(modeling(config)):
        kinds = ["full_attention"] * len(kinds)  # a cache that cuts what the model's attention does not
        extra = [{} for _ in kinds]
    raw = list(getattr(config, "layer_types", None) or kinds)
    kept, ropes = [], []
    how = pairing(config)
    for index, kind in enumerate(kinds):
        own = layer_config(config, index)
        heads = own.num_attention_heads if hasattr(own, "num_attention_heads") else 0
        if kind == "dummy":
            kept.append("shared")
        elif kind in ("linear_attention", "conv"):
            kept.append("recurrent")
        elif kind == "hybrid":
            kept.append("unknown")
        elif name in LATENT:
            kept.append(f"latent {own.kv_lora_rank}+{own.qk_rope_head_dim}")
        else:
            dim = getattr(own, "head_dim", None) or own.hidden_size // heads
            kv = getattr(own, "num_key_value_heads", None)
            if name == "falcon":
                kv = own.num_kv_heads if own.new_decoder_architecture or not own.multi_query else 1
            elif name == "gpt_bigcode":
                kv = 1 if own.multi_query else heads
            window = extra[index].get("sliding_window") or 0
            kept.append(f"{kv or heads}x{dim} window {window}")
        rope = rope_of(config, index, raw[index])
        if rope is None:
            ropes.append(None)
            continue
        frequencies, factor = rope
        some = sorted({0, 1, len(frequencies) // 2, len(frequencies) - 1} & set(range(len(frequencies))))
        shown = " ".join(f"{i}:{float(frequencies[i]):.9e}" for i in some)
        ropes.append(f"{how} {len(frequencies)} pairs {shown} times {factor:.9g}")
    return f"{runs(kept)} | {runs(ropes) or 'none'}"


def make(members):
    members = copy.deepcopy(members)
    return CONFIG_MAPPING[members.pop("model_type")].from_dict(members)


def named(family, members):
    """Members under the names that the class gives them."""
    names = getattr(CONFIG_MAPPING[family], "attribute_map", {})
    return {names.get(key, key): value for key, value in members.items()}


BASE = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=8,
            max_position_embeddings=1024)
WIDTHS = dict(kv_lora_rank=32, q_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16)


def base(family):
    members = named(family, BASE)
    if family in LATENT:
        members |= WIDTHS | {"num_key_value_heads": 4}
    if family == "longcat_flash":
        members.pop("num_hidden_layers")
        members["num_layers"] = 4
    if family in ("falcon_mamba", "mamba", "mamba2", "rwkv"):
        return {"model_type": family, "num_hidden_layers": 8}
    if family in ("falcon_h1", "granitemoehybrid"):
        members |= {"mamba_n_heads": 4, "mamba_d_head": "auto", "mamba_d_ssm": None} if family == "falcon_h1" else {"mamba_n_heads": 4, "mamba_d_head": "auto"}
    if family.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl")):
        members["hidden_size"] = 512  # the class's sections are those of heads of 128
    if family in ("codegen", "gptj"):
        members["rotary_dim"] = 8
    if family == "gemma3n_text":
        members["num_kv_shared_layers"] = 2
    if family == "gpt_neo":
        members["attention_types"] = [[["global", "local"], 4]]
    if family in ("falcon", "gpt_bigcode"):
        members.pop("num_key_value_heads")
    return {"model_type": family} | members


def variants(family):
    yield "bare", {"model_type": family}
    plain = base(family)
    yield "silent", plain
    with contextlib.suppress(Exception):
        if "num_key_value_heads" in plain:
            yield "heads", {k: v for k, v in plain.items() if k != "num_key_value_heads"}
    theta = {"rotary_emb_base" if family == "gpt_neox" else "rope_theta": 123456.0}
    saved = make(plain).to_dict()
    two = any(isinstance(v, dict) for v in (saved.get("rope_parameters") or {}).values())
    if saved.get("rope_parameters") is None:
        yield "window", plain | {"sliding_window": 32}
        return
    if family not in LATENT:
        yield "head_dim", plain | {"head_dim": 32}
    scalings = dict(
        linear={"rope_type": "linear", "factor": 4.0},
        yarn={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        llama3={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128},
        mscale={"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128, "mscale": 0.7,
                "mscale_all_dim": 0.9, "beta_fast": 16.0, "beta_slow": 2.0})
    yield "theta4", plain | theta
    yield "theta5", plain | {"rope_parameters": (
        {kind: {"rope_type": "default", "rope_theta": 5000.0 * n} for n, kind in enumerate(
            ("sliding_attention", "full_attention"), 2)} if two else {"rope_type": "default", "rope_theta": 123456.0})}
    for name, scaling in scalings.items():
        old = {("type" if k == "rope_type" and name == "linear" else k): v for k, v in scaling.items()}
        yield name + "4", plain | theta | {"rope_scaling": old}
        new = scaling | {"rope_theta": 123456.0}
        if two:
            new = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": new}
        yield name + "5", plain | {"rope_parameters": new}
    if not two:
        share = {"rotary_pct": 0.5} if family == "gpt_neox" else {"partial_rotary_factor": 0.5}
        yield "partial4", plain | share
        yield "partial5", plain | {"rope_parameters": {"rope_type": "default", "rope_theta": 9999.0,
                                                       "partial_rotary_factor": 0.5}}
    for window in (32, None):
        yield f"window_{window}", plain | {"sliding_window": window}
    yield "windows", plain | {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 3}
    yield "unused", plain | {"sliding_window": 32, "use_sliding_window": False, "max_window_layers": 3}
    if family in EVERY or family == "smollm3":
        for key in ("sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval"):
            yield key, plain | {key: 3, "sliding_window": 32}
    types = ["sliding_attention", "full_attention"] * 4
    if family not in LATENT:
        yield "types", plain | {"layer_types": types, "sliding_window": 32}
    if family.startswith(("qwen3_5", "qwen3_next", "lfm2", "minimax", "granitemoehybrid", "kimi")):
        kind = "conv" if family.startswith("lfm2") else "linear_attention"
        yield "recurrent", plain | {"layer_types": [kind, kind, "full_attention", kind] * 2}
    interesting = set(plain) | set("""rope_parameters head_dim layer_types sliding_window use_sliding_window no_rope_layers
        num_kv_shared_layers attention_chunk_size max_window_layers partial_rotary_factor position_embedding_type
        global_head_dim original_max_position_embeddings rotary_dim multi_query num_kv_heads alibi""".split())
    yield "saved", {k: v for k, v in saved.items() if k in interesting}


def special():
    """Spellings of published files."""
    def of(family, **members):
        return base(family) | members
    yield "exaone4/LLLG", of("exaone4", sliding_window=32, layer_types=["sliding_attention"] * 3 + ["full_attention"] + ["sliding_attention"] * 3 + ["full_attention"], sliding_window_pattern="LLLG")
    yield "falcon/alibi", of("falcon", alibi=True)
    yield "falcon/new", of("falcon", new_decoder_architecture=True, num_kv_heads=2)
    yield "falcon/heads", of("falcon", multi_query=False)
    yield "gpt_bigcode/heads", of("gpt_bigcode", multi_query=False)
    yield "gemma3_text/local", of("gemma3_text", rope_theta=7e5, rope_local_base_freq=2e4)
    yield "gemma3_text/scaled", of("gemma3_text", rope_scaling={"rope_type": "linear", "factor": 8.0})
    yield "gemma3n_text/shared", of("gemma3n_text", num_kv_shared_layers=3)
    yield "gemma4_text/global", of("gemma4_text", head_dim=16, global_head_dim=32)
    yield "granitemoehybrid/rope", of("granitemoehybrid", position_embedding_type="rope", layer_types=["mamba", "attention"] * 4)
    yield "hunyuan_v1_dense/alpha", of("hunyuan_v1_dense", head_dim=16, rope_scaling={"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0})
    yield "hunyuan_v1_moe/alpha", of("hunyuan_v1_moe", head_dim=16, rope_scaling={"type": "dynamic", "alpha": 50.0, "factor": 1.0})
    yield "jamba/period", of("jamba", attn_layer_period=4, attn_layer_offset=1)
    yield "kimi_linear/lists", of("kimi_linear", linear_attn_config={"kda_layers": [1, 2, 3, 5, 6, 7], "full_attn_layers": [4, 8], "head_dim": 16, "num_heads": 4, "short_conv_kernel_size": 4})
    yield "lfm2/indexes", of("lfm2", full_attn_idxs=[2, 5])
    yield "llama/finetuned", of("llama", rope_scaling={"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "finetuned": True})
    yield "llama4_text/empty", of("llama4_text", no_rope_layers=[], attention_chunk_size=32)
    yield "minimax_m2/rotary_dim", of("minimax_m2", head_dim=16, rotary_dim=8)
    yield "ministral3/published", of("ministral3", rope_parameters={"rope_theta": 1e6, "rope_type": "yarn", "type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "max_position_embeddings": 1024, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1})
    yield "ministral3/kept", of("ministral3", sliding_window=32)
    long = {"short_factor": [1.0] * 7 + [1.5], "long_factor": [2.0] * 7 + [3.0]}
    yield "phi3/su", of("phi3", original_max_position_embeddings=64, rope_scaling=long | {"type": "longrope"})
    yield "phimoe/mscale", of("phimoe", original_max_position_embeddings=64, rope_scaling=long | {"type": "longrope", "short_mscale": 1.2, "long_mscale": 1.2, "original_max_position_embeddings": 64})
    yield "minicpm3/long", of("minicpm3", rope_scaling=long | {"type": "longrope", "original_max_position_embeddings": 64})
    sections = {"mrope_section": [16, 24, 24]}
    yield "qwen2_vl_text/mrope", of("qwen2_vl_text", rope_scaling=sections | {"type": "mrope"})
    yield "qwen2_5_vl_text/card", of("qwen2_5_vl_text", rope_scaling=sections | {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256})
    yield "qwen2_5_vl_text/both", of("qwen2_5_vl_text", rope_scaling=sections | {"type": "default", "rope_type": "default"})
    yield "qwen3_vl_text/card", of("qwen3_vl_text", head_dim=16, rope_scaling={"rope_type": "yarn", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "factor": 3.0, "original_max_position_embeddings": 256})
    yield "qwen3_5_moe_text/card", of("qwen3_5_moe_text", head_dim=16, rope_parameters={"mrope_interleaved": True, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25, "rope_theta": 1e7, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256})
    yield "smollm3/list", of("smollm3", no_rope_layers=[1, 1, 0, 1] * 2)
    yield "dbrx/attention", of("dbrx", attn_config={"kv_n_heads": 2, "rope_theta": 10000.0})
    for outer, inner in OUTER.items():
        text = base(inner)
        yield f"{outer}/nested", {"model_type": outer, "text_config": text}
        yield f"{outer}/theta", {"model_type": outer, "text_config": text | {"rope_theta": 4321.0}}
        yield f"{outer}/untyped", {"model_type": outer, "text_config": {k: v for k, v in text.items() if k != "model_type"}}


def cases():
    seen = {}
    for family in FAMILIES:
        for name, members in variants(family):
            seen[f"{family}/{name}"] = members
    seen.update(special())
    for name, members in seen.items():
        try:
            yield name, members, facts(make(members))
        except Exception as error:  # what the class refuses or cannot compute is nothing to compare with
            if "-v" in sys.argv:
                print("left out", name, type(error).__name__, str(error)[:150], file=sys.stderr)


def constant(family, key, given):
    """A value that the class takes where the file is silent and its widths are `given`."""
    with contextlib.suppress(Exception):
        return getattr(allowed(text_of(make({"model_type": family} | given))), key, None)
    return None


def defaults(family):
    cls = CONFIG_MAPPING[family]
    bare, plain = make({"model_type": family}), base(family)
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings", "kv_lora_rank",
                "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "attention_chunk_size", "max_window_layers",
                "num_kv_shared_layers", "num_layers", "original_max_position_embeddings"):
        value = constant(family, key, {})
        if value is not None and not (family == "longcat_flash" and key == "num_hidden_layers"):
            yield key, value
    if family == "gemma4_text":
        yield "global_head_dim", 512
    without = {k: v for k, v in plain.items() if k != "num_key_value_heads"}
    value = constant(family, "num_key_value_heads", without | named(family, {"num_attention_heads": 12, "hidden_size": 192}))
    if value is not None and value != 12 and family != "gpt_bigcode":
        yield "num_key_value_heads", value
    if family in ("falcon", "gpt_bigcode"):
        yield "multi_query", int(bare.multi_query)
    value = constant(family, "sliding_window", {"use_sliding_window": True})
    if value:
        yield "sliding_window", value
    if hasattr(bare, "use_sliding_window"):
        yield "use_sliding_window", int(bare.use_sliding_window)
    silent, told = make(plain), None
    with contextlib.suppress(Exception):
        told = allowed(make(plain | {"head_dim": 48}))
    dim = constant(family, "head_dim", {k: v for k, v in plain.items()})
    if family not in LATENT and dim not in (None, 16):
        yield "head_dim", dim
    elif family not in LATENT and told is not None and getattr(told, "head_dim", 48) != 48:
        yield "head_dim", "computed"
    for key in ("attn_layer_period", "attn_layer_offset", "rotary_dim"):
        value = getattr(bare, key, None)
        if isinstance(value, int):
            yield key, value
    source = text(modeling(bare))
    parameters = getattr(silent, "rope_parameters", None)
    if parameters:
        nested = any(isinstance(value, dict) for value in parameters.values())
        of = {kind: parameters[kind] if nested else parameters for kind in ("full_attention", "sliding_attention")}
        yield "rope_theta", of["full_attention"]["rope_theta"]
        if nested:
            yield "rope_local_base_freq", of["sliding_attention"]["rope_theta"]
        if not nested and ("partial_rotary_factor" in source or family == "minimax_m2"):
            yield "partial_rotary_factor", parameters.get("partial_rotary_factor", 1.0) if family != "mistral4" else 1.0
        own = {k: v for k, v in of["full_attention"].items() if k not in ("rope_theta", "type") and v is not None}
        if own.get("rope_type") != "default":
            if own.get("max_position_embeddings") == 1024:
                own.pop("max_position_embeddings")
            # some classes do not take the base from the file where they have parameters of their own
            told = make(plain | {"rope_theta": 123456.0}).rope_parameters
            told = (told["full_attention"] if nested else told)["rope_theta"]
            if told != 123456.0:
                own["rope_theta"] = told
            yield "rope_parameters", json.dumps(own, sort_keys=True)
    sections = re.search(r'get\("mrope_section", (\[[0-9, ]+\])\)', source)
    if sections:
        yield "mrope_section", sections[1]
    if family in EVERY:
        every = EVERY[family]
        for layers in range(1, 41):
            config = make(plain | {"num_hidden_layers": layers})
            want = [(i + 1) % every == 0 for i in range(layers)]
            if family == "gemma4_text":
                want[-1] = True
            got = [kind == "full_attention" for kind in config.layer_types]
            assert got == want, (family, layers)
        yield "full_every", every
    if family == "smollm3":
        yield "full_every", bare.no_rope_layer_interval


def write_table():
    lines = [f"# What the configuration classes of transformers {VERSION} take where a config.json is silent.",
             "# Written by tests/runtimes/oracle/run; read by families/defaults.rs and listed in model-id-v1.",
             "# model_type\tkey\tvalue"]
    for family in FAMILIES:
        for key, value in defaults(family):
            value = f"{value:g}" if isinstance(value, float) and value < 1e6 else value
            if isinstance(value, float):
                value = int(value)
            lines.append(f"{family}\t{key}\t{value}")
    return "\n".join(lines) + "\n"


def write_cases():
    lines = [f"# config.json files, and what the classes of transformers {VERSION} make of them.",
             "# Written by tests/runtimes/oracle/run; compared by tests/runtimes/oracle.rs.", "# case\tconfig\tfacts"]
    for name, members, found in cases():
        lines.append(f"{name}\t{json.dumps(members, separators=(',', ':'))}\t{found}")
    return "\n".join(lines) + "\n"


def main():
    assert transformers.__version__ == VERSION, transformers.__version__
    stale = []
    for path, content in ((TABLE, write_table()), (CASES, write_cases())):
        if "--check" in sys.argv:
            if path.read_text() != content:
                stale.append(path.name)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            print(f"{path.name}: {content.count(chr(10)) - 3} rows, {len(content)} bytes")
    if stale:
        sys.exit(f"not what transformers {VERSION} says: {', '.join(stale)}")


main()
