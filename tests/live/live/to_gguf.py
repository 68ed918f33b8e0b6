"""The model as GGUF, with `layers` of its layers: python -m live.to_gguf FOLDER OUT"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight, heads):
    """llama.cpp rotates neighbours, transformers the two halves of a head: the rows change places."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def convert(folder, out, layers=None):
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    layers = layers or config["num_hidden_layers"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(folder.name)
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), config)

    tensors = load_file(folder / "model.safetensors")
    writer.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", tensors["model.norm.weight"].astype(np.float32))
    for layer in range(layers):
        for name, theirs in NAMES.items():
            weight = tensors[f"model.layers.{layer}.{name}.weight"]
            if theirs == "attn_q":
                weight = interleaved(weight, config["num_attention_heads"])
            if theirs == "attn_k":
                weight = interleaved(weight, config["num_key_value_heads"])
            if weight.ndim == 1:
                weight = weight.astype(np.float32)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    finish(writer)


def tokenizer(writer, content, config):
    ids = {token["id"]: token["content"] for token in content["added_tokens"]}
    special = set(ids)
    ids |= {number: text for text, number in content["model"]["vocab"].items()}
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([ids[number] for number in range(config["vocab_size"])])
    writer.add_token_types([control if number in special else normal for number in range(config["vocab_size"])])
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"])
    writer.add_token_merges(list(merges))
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def adapter(folder, out):
    """A LoRA of value projections (no rows change places) as llama.cpp's adapter."""
    folder = Path(folder)
    parameters = json.loads((folder / "adapter_config.json").read_text())["lora_parameters"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", parameters["scale"] * parameters["rank"])
    for name, tensor in load_file(folder / "adapters.safetensors").items():
        layer, half = name.split(".")[2], name.rsplit(".", 1)[1]
        writer.add_tensor(f"blk.{layer}.attn_v.weight.{half}", np.ascontiguousarray(tensor.T))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(*sys.argv[1:])
