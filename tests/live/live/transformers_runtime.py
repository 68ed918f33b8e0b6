"""Hugging Face transformers. It has no file format of its own for caches: spec/runtimes-v1.md §4."""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from live.runtimes import Base

STATES = ("conv_states", "recurrent_states")


class Runtime(Base):
    version = version("transformers")

    def __init__(self, environment):
        super().__init__()
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(True)
        folder = environment["model"]
        config = AutoConfig.from_pretrained(folder)
        if base := environment.get("rope_base"):
            config.rope_parameters["rope_theta"] = base
        dtype = getattr(torch, environment.get("dtype", "bfloat16"))
        self.model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype).eval()
        if adapter := environment.get("adapter"):
            self.merge(Path(adapter))
        self.model.register_forward_pre_hook(self.count, with_kwargs=True)
        self.clear()

    def merge(self, folder):
        """A LoRA merged into the weights, which needs no further package."""
        scale = json.loads((folder / "adapter_config.json").read_text())["lora_parameters"]["scale"]
        weights = dict(self.model.named_parameters())
        with safe_open(folder / "adapters.safetensors", "pt") as file, torch.no_grad():
            for name in (name for name in file.keys() if name.endswith(".lora_a")):
                module = name.removesuffix(".lora_a")
                delta = file.get_tensor(name) @ file.get_tensor(f"{module}.lora_b")
                weights[f"{module}.weight"] += (scale * delta.T).to(torch.bfloat16)

    def count(self, _model, _positional, named):
        self.evaluated += named["input_ids"].shape[1]

    def clear(self):
        self.cache = DynamicCache(config=self.model.config)
        self.evaluated = 0

    def held(self):
        return self.cache.get_seq_length()

    def logits(self, tokens):
        with torch.inference_mode():
            ids = torch.tensor([tokens])
            out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True)
        return out.logits[0].float().numpy()

    def save(self, path, tokens):
        tensors = {}
        for number, layer in enumerate(self.cache.layers):
            for name in ("keys", "values"):
                if (tensor := getattr(layer, name, None)) is not None and tensor.numel():
                    tensors[f"layers.{number}.{name}"] = tensor.contiguous()
            for name in STATES:
                for index, tensor in getattr(layer, name, {}).items():
                    if tensor is not None:
                        tensors[f"layers.{number}.{name}.{index}"] = tensor.contiguous()
        save_file(tensors, path, {"seq_len": str(self.held())})

    def restore(self, path):
        with safe_open(path, "pt") as file:
            length = int(file.metadata()["seq_len"])
            held = {name: file.get_tensor(name) for name in file.keys()}
        for number, layer in enumerate(self.cache.layers):
            if (keys := held.get(f"layers.{number}.keys")) is not None:
                layer.update(keys, held[f"layers.{number}.values"])
                if hasattr(layer, "cumulative_length"):
                    layer.cumulative_length = length
            for index in getattr(layer, "conv_states", {}):
                layer.update_conv_state(held[f"layers.{number}.conv_states.{index}"], index)
                if (state := held.get(f"layers.{number}.recurrent_states.{index}")) is not None:
                    layer.update_recurrent_state(state, index)

    def drop_layer(self):
        """Loses the last layer's cache, as a faulty saver might."""
        self.cache.layers.pop()
