"""How much an error in the cache costs: the metric in which a profile's transform is fitted.

An error δ in a row of the cache changes the predictions after it by KL ≈ ½ δᵀFδ, where F is the Fisher information
of that row: the mean of g·gᵀ over next tokens drawn from the model's own predictions, g being the gradient of their
log probability. So one backward pass over drawn tokens gives a sample of F for every row, layer and head at once,
with all that lies between a cached number and a prediction: queries, attention, output projections, later layers.
"""

import numpy as np

from trainer.model import log_softmax


def metrics(model, cache, ids, random, draws, skip):
    """For keys (un-rotated) and values the mean of g·gᵀ over cached rows from `skip` on: `[2, layers, C, C]`, with C =
    heads · dim, of `ids` read after `cache`."""
    logits, passed = forward(model, cache, ids)
    chances = np.exp(log_softmax(logits))
    past, channels = cache[0].shape[2], model.kv_heads * model.dim
    found = np.zeros((2, len(model.layers), channels, channels))
    for _ in range(draws):
        drawn = (chances.cumsum(axis=1) < random.random((len(ids), 1))).sum(axis=1).clip(0, chances.shape[1] - 1)
        slope = -chances
        slope[np.arange(len(ids)), drawn] += 1
        for index, keys, values in backward(model, passed, slope, past):
            for kind, rows in enumerate((keys, values)):
                flat = rows[:, skip:].swapaxes(0, 1).reshape(past - skip, channels).astype(np.float64)
                found[kind, index] += flat.T @ flat / (past - skip)
    return found / draws


def forward(model, cache, ids):
    """Logits, and what the way back needs of each layer."""
    past, tokens = cache[0].shape[2], len(ids)
    positions = np.arange(past, past + tokens)
    hidden, passed = model.embedding[ids].copy(), []
    for index, layer in enumerate(model.layers):
        before = hidden.copy()
        asked, key, value = model.heads_of(layer, hidden)
        asked = model.rotate(asked, positions) * np.float32(model.dim**-0.5)
        keys = np.concatenate([cache[0][index].astype(np.float32), model.rotate(key, positions)], axis=1)
        values = np.concatenate([cache[1][index].astype(np.float32), value], axis=1)
        scores = grouped(asked, model) @ keys.swapaxes(1, 2)[:, None]
        scores += np.where(np.arange(past + tokens) > positions[:, None], -np.inf, 0).astype(np.float32)
        weights = np.exp(log_softmax(scores))
        out = (weights @ values[:, None]).reshape(model.heads, tokens, model.dim)
        hidden += out.swapaxes(0, 1).reshape(tokens, -1) @ layer.output
        between = hidden.copy()
        gate, up = np.split(model.normed(hidden, layer.feed_forward_norm) @ layer.gate_up, 2, axis=1)
        hidden += (gate / (1 + np.exp(-gate)) * up) @ layer.down
        passed.append((before, asked, keys, values, weights, between, gate, up))
    return model.normed(hidden, model.norm) @ model.embedding.T, (passed, hidden, positions)


def backward(model, forwarded, slope, past):
    """For each layer from the last on: its index, and the gradients of the cached keys (un-rotated) and values,
    `[heads, tokens, dim]`."""
    passed, hidden, positions = forwarded
    slope = slope_of_norm(hidden, slope @ model.embedding, model.norm, model.epsilon)
    for index in reversed(range(len(model.layers))):
        layer = model.layers[index]
        before, asked, keys, values, weights, between, gate, up = passed[index]
        chance = 1 / (1 + np.exp(-gate))
        active = slope @ layer.down.T
        parts = [active * up * chance * (1 + gate * (1 - chance)), active * gate * chance]
        back = np.concatenate(parts, axis=1) @ layer.gate_up.T
        slope = slope + slope_of_norm(between, back, layer.feed_forward_norm, model.epsilon)

        out = (slope @ layer.output.T).reshape(len(slope), model.heads, model.dim).swapaxes(0, 1)
        out = grouped(out, model)
        of_weights = out @ values.swapaxes(1, 2)[:, None]
        of_values = (weights.swapaxes(2, 3) @ out).sum(axis=1)
        of_scores = weights * (of_weights - (of_weights * weights).sum(axis=-1, keepdims=True))
        of_asked = (of_scores @ keys[:, None]).reshape(model.heads, -1, model.dim) * np.float32(model.dim**-0.5)
        of_keys = (of_scores.swapaxes(2, 3) @ grouped(asked, model)).sum(axis=1)
        of_asked = model.rotate(of_asked, positions, back=True)
        of_keys = model.rotate(of_keys, np.arange(of_keys.shape[1]), back=True)
        yield index, of_keys[:, :past], of_values[:, :past]

        own = [of_asked, of_keys[:, past:], of_values[:, past:]]
        rows = np.concatenate([part.swapaxes(0, 1).reshape(len(slope), -1) for part in own], axis=1)
        back = rows @ layer.queries_keys_values.T
        slope = slope + slope_of_norm(before, back, layer.attention_norm, model.epsilon)


def grouped(heads, model):
    """Query heads by the key head that they share."""
    return heads.reshape(model.kv_heads, -1, *heads.shape[1:])


def slope_of_norm(rows, slope, weight, epsilon):
    scale = 1 / np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + epsilon)
    slope = slope * weight
    return scale * (slope - rows * scale**2 * (slope * rows).mean(axis=-1, keepdims=True))
