"""The transform of a bank: the directions of its rows by what they cost and how far they spread, in small integers."""

from dataclasses import dataclass

import numpy as np

# A metric of a few texts is mostly of their few tokens that are attended to most. Errors of texts that it was not
# made from are least with about these parts of it, of its diagonal, and of the mean of each head.
WHOLE, DIAGONAL, HEAD = 0.3, 0.5, 0.2
LARGEST, MAX_SHIFT = 127, 8


@dataclass
class Bank:
    """One entry of a profile. `weights << shifts` turn coefficients into what is left of a row beside `mean`, and
    `scale · analysis` turns that into coefficients; both `[blocks, component, channel]`."""

    mean: np.ndarray
    shifts: np.ndarray
    weights: np.ndarray
    scale: np.ndarray
    analysis: np.ndarray
    unit: float  # of the integers, where coefficients are in steps of one size for all banks

    def coefficients(self, rows):
        """Of rows `[tokens, channels]`, in the integers' scale."""
        parts = (rows - self.mean).reshape(len(rows), len(self.weights), -1).swapaxes(0, 1)
        found = (parts @ self.analysis.swapaxes(1, 2)).swapaxes(0, 1).reshape(len(rows), -1)
        return found * self.scale

    def rows(self, coefficients):
        whole = self.weights * 2.0 ** self.shifts.reshape(len(self.weights), -1, 1)
        parts = coefficients.reshape(len(coefficients), len(self.weights), -1).swapaxes(0, 1)
        return (parts @ whole).swapaxes(0, 1).reshape(len(coefficients), -1) + self.mean


def fit(rows, metric, blocks):
    """The transform of rows `[tokens, channels]`: of the whole bank (`blocks` 1) or of each head by itself."""
    mean = rows.mean(axis=0).astype(np.float32)
    parts = (rows - mean).reshape(len(rows), blocks, -1).swapaxes(0, 1)
    size = parts.shape[2]
    own = metric.reshape(blocks, size, blocks, size)[np.arange(blocks), :, np.arange(blocks)]
    synthesis = np.stack([directions(part, weight) for part, weight in zip(parts, own)])
    weights, shifts, unit = integers(synthesis.reshape(-1, size))
    whole = (weights * 2.0 ** shifts[:, None]).reshape(blocks, size, size)
    inverse = np.linalg.inv(whole).swapaxes(1, 2).reshape(-1, size)  # z = x · inverse; a row for each component
    scale = (np.abs(inverse).max(axis=1) / 32767).astype(np.float32)
    analysis = np.rint(inverse / scale[:, None])
    shape = (blocks, size, size)
    return Bank(mean, shifts, weights.reshape(shape), scale, analysis.reshape(shape), unit)


def shrunk(metric, heads):
    """A metric measured on some texts, as it serves for others."""
    diagonal = np.diag(metric)
    of_heads = np.repeat(diagonal.reshape(heads, -1).mean(axis=1), len(metric) // heads)
    return WHOLE * metric + np.diag(DIAGONAL * diagonal + HEAD * of_heads)


def directions(rows, metric):
    """Rows of synthesis: principal components of what an error in `rows` costs, so that one step for all of them
    costs least at a given rate."""
    weights, axes = np.linalg.eigh(metric)
    root = axes * np.sqrt(weights) @ axes.T
    seen = rows @ root
    _, components = np.linalg.eigh(seen.T @ seen / len(rows))
    return components[:, ::-1].T @ (axes / np.sqrt(weights) @ axes.T)


def integers(synthesis):
    """i8 weights and shifts of their rows, the smallest 0, and the unit: synthesis ≈ (weights << shifts) · unit."""
    exponents = np.ceil(np.log2(np.abs(synthesis).max(axis=1) / LARGEST)).astype(int)
    exponents = np.maximum(exponents, exponents.max() - MAX_SHIFT)
    lowest = exponents.min()
    weights = np.rint(synthesis / 2.0 ** exponents[:, None])
    return weights, exponents - lowest, 2.0**lowest
