"""What predictions are worth: accuracies, recalls, confusion and calibration, and intervals over seeds.

Everything takes probabilities (N, C) and labels (N,), places in C; nothing here knows a network. `places` are the
classes that validation has: Image-wang trains on 20 classes and validates on 10 of them, and both readings are told,
over all C outputs and with the outputs masked to those classes. Of equal probabilities the first class is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

BINS = 15  # of the calibration error, as in Guo et al. 2017
SAME = 1e-9  # deviation of values that differ in nothing but rounding
NOTHING = -1  # what is predicted where all classes that may be predicted have probability 0


def predicted(probabilities: np.ndarray, places: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """The most probable class of every row, (N,) int64.

    Args:
        probabilities: (N, C), none below 0.
        places: classes that may be predicted; None for all.

    Returns:
        Places in C. -1, which is no class, where none of those that may be predicted has any probability.
    """
    p = _checked(probabilities)
    if places is None:
        return p.argmax(1)
    allowed = np.unique(np.asarray(places, dtype=np.int64))
    if not len(allowed):
        raise ValueError("no class may be predicted: places is empty")
    within = p[:, allowed]
    return np.where(within.max(1) > 0, allowed[within.argmax(1)], NOTHING)


def accuracy(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None) -> float:
    """Share of rows whose label is predicted, in [0, 1]. See `predicted`."""
    return float((predicted(probabilities, places) == _labels(labels, probabilities)).mean())


def recalls(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Share of each class's rows that are predicted as that class, (C,); NaN for classes without a row."""
    labels = _labels(labels, probabilities)
    classes = np.asarray(probabilities).shape[1]
    rows = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted(probabilities, places) == labels], minlength=classes)
    return np.divide(right, rows, out=np.full(classes, np.nan), where=rows > 0)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None) -> float:
    """Mean recall over the classes that have rows, in [0, 1]."""
    return float(np.nanmean(recalls(probabilities, labels, places)))


def confusion(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """Rows by true class and predicted class, (C, C) int64. Rows without a prediction are in no column."""
    labels, said = _labels(labels, probabilities), predicted(probabilities, places)
    classes, known = np.asarray(probabilities).shape[1], said != NOTHING
    flat = np.bincount(labels[known] * classes + said[known], minlength=classes * classes)
    return flat.reshape(classes, classes)


def elsewhere(probabilities: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Predictions that fall on each class that is not in `places`, (C,) int64; 0 for those that are."""
    counts = np.bincount(predicted(probabilities), minlength=np.asarray(probabilities).shape[1])
    counts[np.asarray(places, dtype=np.int64)] = 0
    return counts


def masked(probabilities: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Probabilities given that the class is one of `places`: others 0, rows scaled to sum 1 (rows of 0 stay). Where all
    classes are in `places`, the probabilities as they are."""
    whole = _checked(probabilities)
    if len(np.unique(places)) == whole.shape[1]:
        return whole  # to scale sums of nearly 1 would move rows from bin to bin
    p = np.zeros_like(whole)
    p[:, places] = whole[:, places]
    total = p.sum(1, keepdims=True)
    return np.divide(p, total, out=p, where=total > 0)


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width over (0, 1].

    Args:
        edges: (bins + 1,) of the bins. count: (bins,) rows in each.
        confidence, accuracy: (bins,) means over the rows in each; NaN where there is none.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the gap between confidence and accuracy, weighted by rows."""
        filled = self.count > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.count[filled]).sum() / self.count.sum())


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None, bins: int = BINS
) -> Reliability:
    """How sure the predictions are and how often they are right.

    A row of confidence c lies in the bin (k / bins, (k + 1) / bins] that holds c; confidence 0 is in the first.
    """
    labels, said = _labels(labels, probabilities), predicted(probabilities, places)
    p = _checked(probabilities) if places is None else masked(probabilities, places)
    sure = np.where(said == NOTHING, 0.0, p[np.arange(len(p)), said])
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    sums = [np.bincount(which, weights=w, minlength=bins) for w in (sure, said == labels)]
    means = [np.divide(s, count, out=np.full(bins, np.nan), where=count > 0) for s in sums]
    return Reliability(edges, count, *means)


def calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None, bins: int = BINS
) -> float:
    """Expected calibration error in [0, 1]: 15 bins of equal width (Guo et al. 2017, On calibration, eq. 3)."""
    return reliability(probabilities, labels, places, bins).error


def summary(probabilities: np.ndarray, labels: np.ndarray, places: np.ndarray) -> dict[str, float]:
    """All scores that are one number, by name; `masked` is with the outputs masked to the classes of validation."""
    p, y = probabilities, labels
    return {
        "accuracy": accuracy(p, y),
        "accuracy masked": accuracy(p, y, places),
        "balanced accuracy": balanced_accuracy(p, y),
        "balanced accuracy masked": balanced_accuracy(p, y, places),
        "calibration error": calibration_error(p, y),
        "calibration error masked": calibration_error(p, y, places),
        "predictions elsewhere": float(elsewhere(p, places).sum() / len(y)),
    }


# ---- over seeds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean over runs with its t-interval.

    Args:
        mean, sd: of the values; the deviation is that of a sample (n - 1). sd is NaN for one value.
        low, high: the interval that holds the true mean at `level`; NaN for one value, of which nothing is known.
        n: values.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    level: float = 0.95

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2

    @property
    def alike(self) -> bool:
        """Whether several values are all the same: then the interval has no width, and shows nothing."""
        return self.n > 1 and self.sd < SAME

    def excludes(self, value: float = 0.0) -> bool:
        """Whether `value` lies outside; False where there is no interval, or one without a width."""
        return not self.alike and (value < self.low or value > self.high)


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent runs, with Student's t-interval (n - 1 degrees of freedom).

    Raises:
        ValueError: no value, or one that is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"an interval needs finite values, got {list(values)}")
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1, level)
    sd = float(x.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, sd, n, level)


def paired(values: Sequence[float], others: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of the differences `values - others`, run by run: equal seeds must stand at equal places.

    Raises:
        ValueError: of unequal length, none, or not finite.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} and {len(others)} values cannot be paired")
    return interval(np.subtract(values, others), level)


def _checked(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not p.size or not (np.isfinite(p).all() and (p >= 0).all()):
        raise ValueError(f"probabilities must be (N, C), finite and none below 0; got shape {p.shape}")
    return p


def _labels(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    y, (rows, classes) = np.asarray(labels), np.asarray(probabilities).shape
    if y.shape != (rows,) or y.dtype.kind not in "iu" or y.min(initial=0) < 0 or y.max(initial=0) >= classes:
        raise ValueError(f"labels must be {rows} whole numbers in [0, {classes}); got shape {y.shape}, type {y.dtype}")
    return y.astype(np.int64)
