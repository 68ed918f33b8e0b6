"""Models of random weights whose layers slide or recur: their caches differ, their words mean nothing."""

import shutil

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Lfm2Config, Qwen3_5TextConfig

from live.environments import MODEL

COMMON = {
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "tie_word_embeddings": True,
    "dtype": "float16",
}


def configs():
    sliding = Gemma3TextConfig(
        **COMMON,
        num_hidden_layers=6,
        sliding_window=48,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
    )
    hybrid = Qwen3_5TextConfig(
        **COMMON,
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    )
    convolution = Lfm2Config(
        **COMMON | {"num_attention_heads": 2, "num_key_value_heads": 1},
        num_hidden_layers=4,
        layer_types=["conv", "conv", "full_attention", "conv"],
        block_dim=128,
        block_ff_dim=256,
        block_multiple_of=64,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=False,
    )
    return {"sliding window": sliding, "recurrent": hybrid, "convolution": convolution}


def make(runtime, folder):
    """An environment for each kind that the runtime can run."""
    environments = {}
    for name, config in configs().items():
        if name == "recurrent" and runtime == "mlx-lm":
            # it knows this model only inside one for images
            continue
        torch.manual_seed(11)
        model = folder / name.replace(" ", "-")
        AutoModelForCausalLM.from_config(config, dtype=torch.float16).save_pretrained(model)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(MODEL / file, model / file)
        environments[name] = {"model": str(model)}
    return environments
