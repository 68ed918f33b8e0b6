"""A profile from texts: statistics of each, a transform of each bank, and the ladder of rates."""

from dataclasses import dataclass

import numpy as np

from trainer import file, fisher, rates, transform
from trainer.model import log_softmax

DRAWS, ASKING = 2, 512  # predictions drawn for each of the last tokens of a text
STORED = 4  # rows that tc keeps as they are: sinks of attention
LADDER = 2.0 ** np.arange(1.5, -4.1, -0.5)  # steps, beside the one that takes about three bits
HELD_OUT = 128  # tokens whose KL a point of the ladder promises


@dataclass
class Statistics:
    """Of one text: its cache as `[2][layers, heads, tokens, dim]`, and what an error in a row costs."""

    cache: tuple
    metrics: np.ndarray

    @classmethod
    def of(cls, model, ids):
        past = len(ids) - ASKING
        _, cache = model.forward(ids[:past], logits=False)
        metrics = fisher.metrics(model, cache, ids[past:], np.random.default_rng(1), DRAWS, STORED)
        return cls(cache, metrics)


def banks(model, texts, whole):
    """The transform of each bank, by (layer, role), from statistics of texts."""
    metrics = sum(text.metrics for text in texts) / len(texts)
    found = {}
    for layer in range(len(model.layers)):
        for role in (file.KEY, file.VALUE):
            rows = np.concatenate([plain_rows(model, text.cache, layer, role)[STORED:] for text in texts])
            metric = transform.shrunk(metrics[role, layer], model.kv_heads)
            found[layer, role] = transform.fit(rows, metric, 1 if whole else model.kv_heads)
    return found


def ladder(model, banks, texts, held_out, say):
    """Points (KL, rate of each bank in 1/64 bit), the coarsest first. One step for all banks gives the rates; the KL is
    of texts that took no part, the worst of them."""
    frames = {
        (layer, role): [bank.coefficients(plain_rows(model, text.cache, layer, role)[at : at + rates.FRAME])
                        for text in texts for at in (rates.FRAME, 4 * rates.FRAME)]
        for (layer, role), bank in banks.items()
    }  # fmt: skip
    spread = [np.log2(z.std(axis=0) / bank.unit).mean() for bank, zs in zip(banks.values(), frames.values()) for z in zs]
    middle = 2 ** (np.mean(spread) - 1)
    references = [Reference.of(model, ids) for ids in held_out]
    points = []
    for step in middle * LADDER:
        each = []
        for place, bank in banks.items():
            bits = np.mean([rates.frame_bits(z, step * bank.unit) for z in frames[place]])
            each.append(int(np.clip(np.ceil(64 * bits / frames[place][0].size), rates.LEAST, rates.MOST)))
        promised = max(reference.divergence(model, banks, step) for reference in references)
        say(f"step {step / middle:.3f}: {np.mean(each) / 64:.2f} bits, KL {promised:.1e}")
        if not points or (promised < points[-1][0] and sum(each) > sum(points[-1][1])):
            points.append((promised, each))
    return points


@dataclass
class Reference:
    """A text read with the exact cache."""

    ids: list
    cache: tuple
    logs: np.ndarray

    @classmethod
    def of(cls, model, ids):
        _, cache = model.forward(ids[:-HELD_OUT], logits=False)
        logits, _ = model.forward(ids[-HELD_OUT:], cache)
        return cls(ids[-HELD_OUT:], cache, log_softmax(logits))

    def divergence(self, model, banks, step):
        """The mean of KL(exact ‖ found) over the held-out tokens, all banks in one step."""
        tokens = self.cache[0].shape[2]
        parts = ([], [])
        for (layer, role), bank in banks.items():
            rows = plain_rows(model, self.cache, layer, role)
            for at in range(0, tokens, rates.FRAME):
                first = STORED if at == 0 else at
                z = bank.coefficients(rows[first : at + rates.FRAME])
                q, offsets = rates.quantized(z, step * bank.unit)
                rows[first : at + rates.FRAME] = bank.rows((q + offsets / 8) * step * bank.unit)
            parts[role].append(rows.reshape(tokens, model.kv_heads, -1).swapaxes(0, 1))
        keys, values = (np.stack(part).astype(np.float32) for part in parts)
        keys = model.rotate(keys, np.arange(tokens))
        logits, _ = model.forward(self.ids, (keys.astype(np.float16), values.astype(np.float16)))
        return float((np.exp(self.logs) * (self.logs - log_softmax(logits))).sum(axis=1).mean())


def plain_rows(model, cache, layer, role):
    """Rows `[tokens, channels]` of a bank, keys un-rotated."""
    bank = cache[role][layer].astype(np.float32)
    if role == file.KEY:
        bank = model.rotate(bank, np.arange(bank.shape[1]), back=True)
    return bank.swapaxes(0, 1).reshape(bank.shape[1], -1)
