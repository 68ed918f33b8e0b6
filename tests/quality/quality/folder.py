"""The model as a folder of transformers', for the program: python -m quality.folder OUT"""

import json
import sys
from pathlib import Path

from trainer.model import Model, tokenizer
from quality.states import write_tensors
from quality.texts import WEIGHTS


def make(out, model):
    """Weights of f16, configuration and tokenizer of the GGUF file."""
    width, kv = model.width, model.kv_heads * model.dim
    tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm}
    for index, layer in enumerate(model.layers):
        rows = layer.queries_keys_values.T
        queries, keys, values = rows[:width], rows[width:-kv], rows[-kv:]
        half = layer.gate_up.shape[1] // 2
        tensors |= {
            f"model.layers.{index}.{name}.weight": weight
            for name, weight in {
                "input_layernorm": layer.attention_norm,
                "post_attention_layernorm": layer.feed_forward_norm,
                "self_attn.q_proj": queries,
                "self_attn.k_proj": keys,
                "self_attn.v_proj": values,
                "self_attn.o_proj": layer.output.T,
                "mlp.gate_proj": layer.gate_up.T[:half],
                "mlp.up_proj": layer.gate_up.T[half:],
                "mlp.down_proj": layer.down.T,
            }.items()
        }
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "head_dim": model.dim,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": model.fields["llama.feed_forward_length"],
        "max_position_embeddings": model.fields["llama.context_length"],
        "num_attention_heads": model.heads,
        "num_hidden_layers": len(model.layers),
        "num_key_value_heads": model.kv_heads,
        "rms_norm_eps": model.epsilon,
        "rope_parameters": {"rope_theta": model.fields["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": len(model.embedding),
    }
    (out / "config.json").write_text(json.dumps(config))
    tokenizer(model.fields).save(str(out / "tokenizer.json"))
    write_tensors(out / "model.safetensors", tensors, {"format": "pt"})


if __name__ == "__main__":
    make(Path(sys.argv[1]), Model(WEIGHTS))
