"""A mixture of experts of random weights as GGUF: Qwen3-MoE in small, with the shipped model's tokenizer."""

import json

import gguf
import numpy as np

from live.environments import MODEL
from live.to_gguf import finish, tokenizer

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD = 8, 256, 8, 2, 64
EXPERTS, USED, HIDDEN = 16, 4, 256


def spelled(words):
    """Ids of tokens of printable ASCII, spaces and line breaks, as byte-level BPE writes them."""
    special = {token["id"] for token in words["added_tokens"]}
    plain = {chr(code) for code in range(33, 127)} | {"Ġ", "Ċ"}
    return {number for text, number in words["model"]["vocab"].items() if set(text) <= plain} - special


def make(out):
    config = json.loads((MODEL / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "qwen3moe")
    writer.add_name("experts")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_expert_feed_forward_length(HIDDEN)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    words = json.loads((MODEL / "tokenizer.json").read_text())
    tokenizer(writer, words, config)

    random = np.random.default_rng(11)

    def matrix(name, *shape):
        # as wide as makes the tokens that follow differ
        writer.add_tensor(name, random.normal(0, 0.06, shape).astype(np.float16))

    def norm(name, width):
        writer.add_tensor(name, np.ones(width, np.float32))

    matrix("token_embd.weight", config["vocab_size"], WIDTH)
    output = random.normal(0, 0.06, (config["vocab_size"], WIDTH)).astype(np.float16)
    # never the most likely: llama-server answers with an error where its output is not UTF-8
    output[list(set(range(config["vocab_size"])) - spelled(words))] = 0
    writer.add_tensor("output.weight", output)
    norm("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        norm(f"{at}attn_norm.weight", WIDTH)
        norm(f"{at}ffn_norm.weight", WIDTH)
        norm(f"{at}attn_q_norm.weight", HEAD)
        norm(f"{at}attn_k_norm.weight", HEAD)
        matrix(f"{at}attn_q.weight", HEADS * HEAD, WIDTH)
        matrix(f"{at}attn_k.weight", KV_HEADS * HEAD, WIDTH)
        matrix(f"{at}attn_v.weight", KV_HEADS * HEAD, WIDTH)
        matrix(f"{at}attn_output.weight", WIDTH, HEADS * HEAD)
        router = random.normal(0, 0.06, (EXPERTS, WIDTH)).astype(np.float32)
        writer.add_tensor(f"{at}ffn_gate_inp.weight", router)
        matrix(f"{at}ffn_gate_exps.weight", EXPERTS, HIDDEN, WIDTH)
        matrix(f"{at}ffn_up_exps.weight", EXPERTS, HIDDEN, WIDTH)
        matrix(f"{at}ffn_down_exps.weight", EXPERTS, WIDTH, HIDDEN)
    finish(writer)
