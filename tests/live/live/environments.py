"""What runtimes run with: the model, and copies of it in which one thing is another."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODEL = Path(__file__).parent.parent / "model"
#: the shipped model's base is 10,000
OTHER_BASE = 20000.0


def make(runtime, folder):
    """Environments by name: `base`, and those in which a capsule of `base` must be refused."""
    folder.mkdir()
    base = copy(folder / "base")
    weights = copy(folder / "weights")
    change_a_weight(weights / "model.safetensors")
    rope = copy(folder / "rope")
    change_json(rope / "config.json", other_theta)
    words = copy(folder / "words")
    change_json(words / "tokenizer.json", exchange_two_words)
    adapter = make_adapter(folder / "adapter")
    models = {"base": base, "weights": weights, "rope": rope, "words": words}
    if runtime == "llama.cpp":
        from live import to_gguf

        for name, model in models.items():
            models[name] = folder / f"{name}.gguf"
            to_gguf.convert(model, models[name])
        models["short"] = folder / "short.gguf"
        to_gguf.convert(base, models["short"], layers=5)
        to_gguf.adapter(adapter, folder / "adapter.gguf")
        adapter = folder / "adapter.gguf"
    environments = {name: {"model": str(model)} for name, model in models.items()}
    environments["override"] = environments["base"] | {"rope_base": OTHER_BASE}
    environments["adapter"] = environments["base"] | {"adapter": str(adapter)}
    return environments


def copy(folder):
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(MODEL / name, folder / name)
    return folder


def change_a_weight(path):
    """One weight of the last layer, by its last bit."""
    with open(path, "r+b") as file:
        header = int.from_bytes(file.read(8), "little")
        at = json.loads(file.read(header))["model.layers.5.mlp.down_proj.weight"]["data_offsets"][0]
        file.seek(8 + header + at)
        byte = file.read(1)[0]
        file.seek(8 + header + at)
        file.write(bytes([byte ^ 1]))


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def other_theta(config):
    config["rope_theta"] = config["rope_parameters"]["rope_theta"] = OTHER_BASE


def exchange_two_words(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    one, other = "the", "Ġthe"
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def make_adapter(folder):
    """A LoRA of rank 4 on every value projection, in mlx-lm's layout."""
    folder.mkdir()
    random = np.random.default_rng(7)
    tensors = {}
    for layer in range(6):
        module = f"model.layers.{layer}.self_attn.v_proj"
        tensors[f"{module}.lora_a"] = random.normal(0, 0.05, (256, 4)).astype(np.float32)
        tensors[f"{module}.lora_b"] = random.normal(0, 0.05, (4, 128)).astype(np.float32)
    save_file(tensors, folder / "adapters.safetensors")
    config = {
        "fine_tune_type": "lora",
        "num_layers": 6,
        "lora_parameters": {"rank": 4, "scale": 8.0, "dropout": 0.0, "keys": ["self_attn.v_proj"]},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def for_peft(folder):
    """The same in PEFT's layout."""
    folder.mkdir()
    random = np.random.default_rng(7)
    tensors = {}
    for layer in range(6):
        module = f"base_model.model.model.layers.{layer}.self_attn.v_proj"
        tensors[f"{module}.lora_A.weight"] = random.normal(0, 0.05, (4, 256)).astype(np.float32)
        tensors[f"{module}.lora_B.weight"] = random.normal(0, 0.05, (128, 4)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 32, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["v_proj"]}))
    return folder


def of_fewer_layers(kvid):
    """A model file that says of the last layer that nobody knows what it keeps: a faulty sealer's."""
    content = json.loads(kvid)
    content["geometry"]["layers"][-1] = {"kind": "unknown"}
    return json.dumps(content)


