"""What a cache that was encoded and opened again costs the text after it."""

from dataclasses import dataclass

import numpy as np

from trainer.model import log_softmax

RESAMPLES = 2000
RUN = 16  # neighbouring tokens go together: their errors are alike


@dataclass
class Reference:
    """A text read with the exact cache."""

    text: object
    ids: list
    cache: tuple
    log_probabilities: np.ndarray

    @classmethod
    def of(cls, model, text, ids):
        _, cache = model.forward(ids[: text.context], logits=False)
        logits, _ = model.forward(ids[text.context :], cache)
        return cls(text, ids, cache, log_softmax(logits))

    def compare(self, model, cache):
        """For each held-out token: KL(exact ‖ found), whether the first choice agrees, and the NLL that was added
        (0 for the last). The same cache, bit for bit, gives the same predictions, and is not asked again."""
        if all(np.array_equal(mine, its) for mine, its in zip(self.cache, cache)):
            return np.array([[0.0], [1.0], [0.0]]).repeat(self.text.held_out, axis=1)
        logits, _ = model.forward(self.ids[self.text.context :], cache)
        exact, found = self.log_probabilities, log_softmax(logits)
        divergence = (np.exp(exact) * (exact - found)).sum(axis=1, dtype=np.float64)
        agrees = exact.argmax(axis=1) == found.argmax(axis=1)
        rows, targets = np.arange(len(found) - 1), self.ids[self.text.context + 1 :]
        added = np.append((exact - found)[rows, targets], 0.0)
        return np.stack([divergence, agrees, added]).astype(np.float64)


@dataclass
class Row:
    """An encoding over texts: bits a value of each capsule, and what each token lost."""

    name: str
    bits: dict
    tokens: dict

    def save(self, path):
        np.savez(path, names=list(self.tokens), bits=list(self.bits.values()), tokens=list(self.tokens.values()))

    @classmethod
    def load(cls, name, path):
        kept = np.load(path)
        names = kept["names"].tolist()
        return cls(name, dict(zip(names, kept["bits"].tolist())), dict(zip(names, kept["tokens"])))

    def summary(self, names):
        """Bits, KL with its interval, top-1, ΔNLL and 99th percentile of KL over the texts `names`."""
        parts = [self.tokens[name] for name in names]
        whole = np.concatenate(parts, axis=1)
        divergence, agrees, added = whole
        return {
            "bits": float(np.mean([self.bits[name] for name in names])),
            "kl": float(divergence.mean()),
            "interval": interval([part[0] for part in parts]),
            "top1": float(agrees.mean()),
            "nll": float(added.sum() / sum(part.shape[1] - 1 for part in parts)),
            "kl99": float(np.quantile(divergence, 0.99)),
            "tokens": whole.shape[1],
        }


def interval(parts):
    """95 % of the means of resampled runs of tokens, as many from each text as it has."""
    random = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    for part in parts:
        runs = part[: len(part) // RUN * RUN].reshape(-1, RUN).mean(axis=1)
        drawn = random.integers(len(runs), size=(RESAMPLES, len(runs)))
        total += runs[drawn].mean(axis=1) * len(part)
    low, high = np.quantile(total / sum(map(len, parts)), [0.025, 0.975])
    return float(low), float(high)
