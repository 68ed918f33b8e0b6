"""A Llama forward pass in numpy, over a KV cache of f16: all that a restored state is asked for."""

from dataclasses import dataclass

import numpy as np

BLOCK = 256  # tokens computed together


@dataclass
class Layer:
    attention_norm: np.ndarray
    queries_keys_values: np.ndarray
    output: np.ndarray
    feed_forward_norm: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray


class Model:
    """Weights of a GGUF file, rounded to f16 as the folder of `folder.py` has them; each matrix as inputs × outputs."""

    def __init__(self, path):
        import gguf

        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}

        def weight(name):
            tensor = tensors[name]
            shape = [int(size) for size in tensor.shape][::-1]
            whole = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
            return whole.astype(np.float16).astype(np.float32)

        of = lambda name: fields[f"llama.{name}"]
        self.heads, self.kv_heads = of("attention.head_count"), of("attention.head_count_kv")
        self.width, self.epsilon = of("embedding_length"), of("attention.layer_norm_rms_epsilon")
        self.dim = self.width // self.heads
        half = np.arange(0, self.dim, 2) / self.dim
        self.frequencies = fields["llama.rope.freq_base"] ** -half.astype(np.float64)
        self.fields = fields
        self.embedding, self.norm = weight("token_embd.weight"), weight("output_norm.weight")
        self.layers = []
        for index in range(of("block_count")):
            part = lambda name: weight(f"blk.{index}.{name}.weight")
            halves = lambda name, heads: self._halves(part(name), heads)
            attention = [halves("attn_q", self.heads), halves("attn_k", self.kv_heads), part("attn_v")]
            turned = lambda *parts: np.ascontiguousarray(np.concatenate(parts).T)
            self.layers.append(
                Layer(part("attn_norm"), turned(*attention), turned(part("attn_output")), part("ffn_norm"),
                      turned(part("ffn_gate"), part("ffn_up")), turned(part("ffn_down")))
            )  # fmt: skip

    def _halves(self, weight, heads):
        """llama.cpp rotates neighbours, transformers the two halves of a head: the rows change places."""
        pairs = weight.reshape(heads, self.dim // 2, 2, weight.shape[1])
        return pairs.swapaxes(1, 2).reshape(weight.shape)

    def rotate(self, rows, positions, back=False):
        """Rows `[…, tokens, dim]` turned by their positions, or back."""
        angles = np.asarray(positions, np.float64)[:, None] * self.frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        sin = -sin if back else sin
        first, second = np.split(rows, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def forward(self, ids, cache=None, logits=True):
        """Logits of `ids`, read after `cache`, and the cache with them: keys and values, each
        `[layers, heads, tokens, dim]` of f16."""
        past = cache[0].shape[2] if cache else 0
        shape = (len(self.layers), self.kv_heads, past + len(ids), self.dim)
        keys, values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        if cache:
            keys[:, :, :past], values[:, :, :past] = cache
        found = []
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            positions = np.arange(past + start, past + start + len(block))
            hidden = self.embedding[block].copy()
            for index, layer in enumerate(self.layers):
                self._attend(layer, hidden, positions, keys[index], values[index])
                gate, up = np.split(self.normed(hidden, layer.feed_forward_norm) @ layer.gate_up, 2, axis=1)
                hidden += (gate / (1 + np.exp(-gate)) * up) @ layer.down
            if logits:
                found.append(self.normed(hidden, self.norm) @ self.embedding.T)
        held = keys.astype(np.float16), values.astype(np.float16)
        return (np.concatenate(found) if logits else None), held

    def _attend(self, layer, hidden, positions, keys, values):
        tokens, end = len(positions), positions[-1] + 1
        asked, key, value = self.heads_of(layer, hidden)
        asked = self.rotate(asked, positions) * np.float32(self.dim**-0.5)
        # the cache is of f16, of this pass too
        keys[:, positions[0] : end] = self.rotate(key, positions).astype(np.float16)
        values[:, positions[0] : end] = value.astype(np.float16)
        hidden_from = np.where(np.arange(end) > positions[:, None], -np.inf, 0).astype(np.float32)
        shared = self.heads // self.kv_heads
        out = np.empty((self.heads, tokens, self.dim), np.float32)
        for head in range(self.kv_heads):
            group = slice(head * shared, (head + 1) * shared)
            scores = asked[group].reshape(-1, self.dim) @ keys[head, :end].T
            scores = scores.reshape(shared, tokens, end)
            scores += hidden_from
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1)[..., None]
            out[group] = (scores.reshape(-1, end) @ values[head, :end]).reshape(shared, tokens, -1) / total
        hidden += out.swapaxes(0, 1).reshape(tokens, -1) @ layer.output

    def heads_of(self, layer, hidden):
        """Queries, keys and values of hidden rows, each `[heads, tokens, dim]`, not turned."""
        rows = self.normed(hidden, layer.attention_norm) @ layer.queries_keys_values
        kv = self.kv_heads * self.dim
        parts = rows[:, : -2 * kv], rows[:, -2 * kv : -kv], rows[:, -kv:]
        return [part.reshape(len(rows), -1, self.dim).swapaxes(0, 1) for part in parts]

    def normed(self, rows, weight):
        return rows / np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + self.epsilon) * weight


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def tokenizer(fields):
    """The tokenizer that the GGUF file describes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    pairs = [tuple(merge.split(" ")) for merge in merges]
    found = Tokenizer(models.BPE(vocab={name: id for id, name in enumerate(names)}, merges=pairs))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    found.decoder = decoders.ByteLevel()
    return found
