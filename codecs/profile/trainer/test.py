"""python -m trainer.test: the parts against what they stand for, on a model of a few random weights."""

import struct
import tempfile
import unittest
from pathlib import Path

import numpy as np

from trainer import convert, file, fisher, rates, transform
from trainer.model import Layer, Model, log_softmax

RANDOM = np.random.default_rng(5)
LAYERS, HEADS, KV_HEADS, DIM, VOCABULARY = 3, 4, 2, 8, 23


def small():
    """A model without a file."""
    model = Model.__new__(Model)
    model.heads, model.kv_heads, model.dim = HEADS, KV_HEADS, DIM
    model.width, model.epsilon = HEADS * DIM, 1e-5
    model.frequencies = 100.0 ** -(np.arange(0, DIM, 2) / DIM)
    weights = lambda *shape: (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
    gain = lambda: 1 + weights(model.width)
    model.embedding, model.norm = 4 * weights(VOCABULARY, model.width), gain()
    columns = (HEADS + 2 * KV_HEADS) * DIM
    model.layers = [
        Layer(gain(), 2 * weights(model.width, columns), weights(HEADS * DIM, model.width), gain(),
              weights(model.width, 96), weights(48, model.width)) for _ in range(LAYERS)
    ]  # fmt: skip
    return model


def read(model, tokens):
    _, cache = model.forward(RANDOM.integers(VOCABULARY, size=tokens), logits=False)
    return cache


class Fisher(unittest.TestCase):
    def test_gradients_are_those_of_small_steps(self):
        model = small()
        keys, values = (bank.astype(np.float64) for bank in read(model, 12))
        ids = RANDOM.integers(VOCABULARY, size=5)
        weight = RANDOM.standard_normal((5, VOCABULARY))
        _, passed = fisher.forward(model, (keys, values), ids)
        found = {layer: parts for layer, *parts in fisher.backward(model, passed, weight, 12)}
        for layer, head, row, channel in [(0, 0, 0, 0), (1, 1, 3, 5), (2, 0, 11, 7)]:
            for kind in (0, 1):
                step = np.zeros((1, DIM))
                step[0, channel] = 1e-2
                # keys are stepped before they are turned
                step = model.rotate(step, [row]) if kind == 0 else step

                def at(sign):
                    moved = [keys.copy(), values.copy()]
                    moved[kind][layer, head, row] += sign * step[0]
                    logits, _ = fisher.forward(model, moved, ids)
                    return (logits * weight).sum()

                wanted = (at(1) - at(-1)) / 2e-2
                self.assertAlmostEqual(found[layer][kind][head, row, channel], wanted, delta=2e-2 * max(1, abs(wanted)))

    def test_the_metric_is_the_divergence_of_small_errors(self):
        model = small()
        cache, ids = read(model, 12), RANDOM.integers(VOCABULARY, size=6)
        metrics = fisher.metrics(model, cache, ids, RANDOM, 400, 0)
        exact = log_softmax(fisher.forward(model, cache, ids)[0].astype(np.float64))
        size, found = 0.05, []
        for _ in range(400):
            values = cache[1].astype(np.float64)
            values[1] += size * RANDOM.standard_normal(values[1].shape)
            other = log_softmax(fisher.forward(model, (cache[0], values), ids)[0].astype(np.float64))
            found.append((np.exp(exact) * (exact - other)).sum())
        wanted = 0.5 * size**2 * 12 * np.trace(metrics[1, 1])
        self.assertLess(abs(np.mean(found) / wanted - 1), 0.25)


class Transform(unittest.TestCase):
    def rows(self):
        mix = RANDOM.standard_normal((16, 16)) * 2.0 ** RANDOM.integers(-3, 3, size=16)
        return RANDOM.standard_normal((400, 16)) @ mix + RANDOM.standard_normal(16)

    def test_rows_come_back_and_integers_are_small(self):
        rows = self.rows()
        for blocks in (1, 2):
            metric = transform.shrunk(np.cov(RANDOM.standard_normal((16, 100))), 2)
            bank = transform.fit(rows, metric, blocks)
            self.assertLess(np.abs(bank.rows(bank.coefficients(rows)) - rows).max(), 1e-3 * np.abs(rows).max())
            self.assertLessEqual(np.abs(bank.weights).max(), 127)
            self.assertEqual(bank.shifts.min(), 0)
            self.assertLessEqual(bank.shifts.max(), transform.MAX_SHIFT)
            self.assertEqual(bank.weights.shape, (blocks, 16 // blocks, 16 // blocks))

    def test_components_are_not_correlated_and_errors_cost_alike(self):
        rows, metric = self.rows(), np.cov(RANDOM.standard_normal((16, 100)))
        rows -= rows.mean(axis=0)
        synthesis = transform.directions(rows, metric)
        together = np.corrcoef(rows @ np.linalg.inv(synthesis), rowvar=False)
        self.assertLess(np.abs(together - np.eye(16)).max(), 1e-6)
        self.assertLess(np.abs(synthesis @ metric @ synthesis.T - np.eye(16)).max(), 1e-6)


class Rates(unittest.TestCase):
    def test_bits_are_near_the_entropy_of_a_gaussian(self):
        for spread in (1.0, 5.0, 60.0):
            q = np.rint(spread * RANDOM.standard_normal((4000, 1)))
            entropy = np.log2(spread * np.sqrt(2 * np.pi * np.e))
            self.assertLess(abs(rates.column_bits(q) / 4000 - entropy), 0.1)

    def test_offsets_take_away_the_error_that_all_tokens_share(self):
        z = RANDOM.standard_normal((256, 8)) * 3 + 40
        q, offsets = rates.quantized(z, 0.5)
        self.assertLess(np.abs((z / 0.5 - q - offsets / 8).mean(axis=0)).max(), 1 / 16 + 1e-9)


class File(unittest.TestCase):
    def test_keys_change_places_and_values_do_not(self):
        rows, metric = RANDOM.standard_normal((100, 16)), np.eye(16)
        for blocks in (1, 2):
            banks = {(0, role): transform.fit(rows, metric, blocks) for role in (file.KEY, file.VALUE)}
            points = [(1e-3, [192, 200]), (1e-4, [256, 260])]
            with tempfile.TemporaryDirectory() as folder:
                written = []
                for name, neighbours in (("halves", False), ("neighbours", True)):
                    path = Path(folder) / name
                    file.write(path, bytes(32), banks, (2, 8), points, neighbours)
                    written.append(path.read_bytes())
            halves, neighbours = written
            self.assertEqual(len(halves), 48 + 2 * 12 + 2 * (4 + 4) + 2 * (16 * 9 + 3 * 256 // blocks))
            self.assertEqual(convert.convert(halves, bytes(32), True), neighbours)
            self.assertEqual(convert.convert(halves, b"1" * 32, False)[16:48], b"1" * 32)
            means = np.frombuffer(halves, "<f4", 16, 48 + 24 + 16), np.frombuffer(neighbours, "<f4", 16, 48 + 24 + 16)
            self.assertEqual(means[0][:8].tolist()[0::4], means[1][:2].tolist())
            self.assertEqual(struct.unpack("<I", halves[72:76]), (1_000_000,))


if __name__ == "__main__":
    unittest.main()
