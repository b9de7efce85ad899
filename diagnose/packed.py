"""How the statistics of a tensor stand in a row of numbers, whoever computes them."""

from __future__ import annotations

import numpy as np

BINS = 64  # of a histogram: 31 of negative numbers, zero, 31 of positive ones, and one for what is not finite
WINDOW = 30  # bins of each sign below the largest magnitude: 15 octaves, two bins an octave
CHUNK = 16  # neighbours that are read together, and are correlated
LONG_CHUNK = 64  # the same of outputs, see `sampling`
NEAR = 0.9  # share of the mean's square in that of the numbers from which on distances to the mean are summed instead
NOTHING = -10000  # `top` of what is all zero
FIELDS = ("count", "mean", "std", "min", "max", "kurtosis", "zeros", "negatives", "nonfinite", "error", "top")
WIDTH = len(FIELDS) + BINS
PUT = {field: i for i, field in enumerate(FIELDS)}


def start(shift: int, room: int) -> int:
    """Where the chunks of a step begin: another place at every step, from 0 to `room`."""
    return shift * 40503 % (room + 1)


class Summary:
    """Statistics of many tensors, one row each, as NumPy arrays: an attribute for each of `FIELDS`, and `histogram`.

    Attributes:
        count: elements read.
        mean, std, min, max, kurtosis: of the finite elements; NaN if there is none. `std` is the population's,
            `kurtosis` Fisher's, 0 for a normal distribution (NaN unless asked for), `min` and `max` NaN unless exact.
        zeros, negatives, nonfinite: shares in [0, 1] of the elements read; minus zero is a zero.
        error: standard error of the mean, from the spread between chunks of 16 neighbours (Cochran 1977, ch. 9:
            neighbours are correlated, so chunks are the sampling unit); NaN for fewer than 8 whole chunks.
        top: which half-octave holds the largest finite magnitude, counted from the one that starts at 1; −10000 if
            none is above zero. See `histogram_edges`.
        histogram: [rows, 64] counts, in ascending order of value, the last one what is not finite. Two bins an octave,
            with edges at 1 and 1.5 times powers of two that are the same for every tensor at every step; the 15
            octaves below `top` have bins of their own, what is smaller shares one bin of each sign.
    """

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    kurtosis: np.ndarray
    zeros: np.ndarray
    negatives: np.ndarray
    nonfinite: np.ndarray
    error: np.ndarray
    top: np.ndarray
    histogram: np.ndarray

    def __init__(self, packed: np.ndarray):
        for i, field in enumerate(FIELDS):
            setattr(self, field, packed[:, i])
        self.histogram = packed[:, len(FIELDS) :]

    def l2(self, size: np.ndarray) -> np.ndarray:
        """L2 norm of the finite elements of tensors of `size` elements, scaled up from what was read."""
        return np.sqrt(size * (1 - self.nonfinite)) * np.hypot(self.mean, self.std)


class Pages:
    """Arrays of float64 of one shape, many made at once: NumPy makes an object to tell an address."""

    def __init__(self, shape: tuple[int, ...], many: int = 16):
        self.shape, self._many, self._left = shape, many, iter(())

    def next(self) -> tuple[np.ndarray, int]:
        """One that nobody has, and its address."""
        for found in self._left:
            return found
        pages = np.empty((self._many, *self.shape))
        at = range(pages.ctypes.data, pages.ctypes.data + max(pages.nbytes, 1), max(pages[0].nbytes, 1))
        self._left = zip(pages, at)
        return next(self._left)
