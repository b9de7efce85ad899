"""What frozen features are worth: classes by their nearest neighbours, and by a linear probe.

Both give probabilities over all classes of training, so that every score is one of the same kind.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 20  # as in Wu et al. 2018 for few labels; their 200 are for 1.3 million images
TEMPERATURE = 0.07  # Wu et al. 2018, section 3.4
STRENGTHS = np.logspace(-4, 3, 8)  # C of the probe, for as many labels as its choice is made on
TRIALS = 3  # splits of the labels that C is chosen on
HELD_OUT = 0.25  # of the labels of each class, at least one
MOST = 2000  # labels that C is chosen on at most
ITERATIONS = 1000


def nearest(
    train: np.ndarray,
    labels: np.ndarray,
    asked: np.ndarray,
    classes: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Probabilities (M, classes) by the vote of nearest neighbours, each with weight exp(cosine / temperature).

    Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination". Features are centred on
    the mean of the labelled ones first: after a ReLU all are positive and every cosine is near 1.

    Args:
        train: labelled features (N, D). labels: (N,), places of classes. asked: features (M, D).
        neighbours: this many, or as many as there are.
    """
    middle = train.mean(0)
    known, new = _unit(train - middle), _unit(asked - middle)
    count = min(neighbours, len(known))
    found = np.zeros((len(new), classes))
    for first in range(0, len(new), 1024):
        cosines = new[first : first + 1024] @ known.T
        best = np.argsort(-cosines, 1, kind="stable")[:, :count]
        near = np.take_along_axis(cosines, best, 1)
        weights = np.exp((near - near[:, :1]) / temperature)
        rows = np.arange(len(best))[:, None] + first
        np.add.at(found, (rows, labels[best]), weights)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


@dataclass(frozen=True)
class Probed:
    """Probabilities (M, classes) float32 of a linear probe, and the strength that its labels chose.

    Args:
        strength: C of scikit-learn's LogisticRegression, for all labels.
        chosen: False where every class has one label: nothing can be held out, and C is 1.
    """

    probabilities: np.ndarray
    strength: float
    chosen: bool


def probe(train: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int, seed: int) -> Probed:
    """A linear probe: logistic regression on features with mean 0 and variance 1 over the labelled ones.

    Its C is chosen by the log loss on a quarter of each class's labels, over three splits of the labels alone; a class
    with one label stays in training. The chosen penalty keeps its ratio to the mean loss when all labels are fitted.

    Args:
        train: labelled features (N, D). labels: (N,), places of classes. asked: features (M, D).
        seed: of the splits.
    """
    rng = np.random.default_rng([seed, 7])
    part = np.arange(len(labels)) if len(labels) <= MOST else np.sort(rng.permutation(len(labels))[:MOST])
    losses, sizes = [], []
    for _ in range(TRIALS):
        held = _held_out(labels[part], rng)
        if held.any() and len(np.unique(labels[part][~held])) > 1:
            kept, out = part[~held], part[held]
            losses.append([_loss(train, labels, kept, out, classes, c) for c in STRENGTHS])
            sizes.append(len(kept))
    per_label = 1.0
    if losses:
        strength = STRENGTHS[int(np.argmin(np.mean(losses, 0)))]
        per_label = strength * np.mean(sizes) / len(labels)
    found = _fitted(train, labels, asked, classes, per_label)
    return Probed(found.astype(np.float32), float(per_label), bool(losses))


def _held_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if len(places) > 1:
            held[rng.permutation(places)[: max(1, round(HELD_OUT * len(places)))]] = True
    return held


def _loss(
    train: np.ndarray, labels: np.ndarray, kept: np.ndarray, out: np.ndarray, classes: int, strength: float
) -> float:
    found = _fitted(train[kept], labels[kept], train[out], classes, strength).clip(1e-7)
    return log_loss(labels[out], found / found.sum(1, keepdims=True), labels=np.arange(classes))


def _fitted(train: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int, strength: float) -> np.ndarray:
    scaler = StandardScaler().fit(train.astype(np.float64))
    found = np.zeros((len(asked), classes))
    present = np.unique(labels)
    if len(present) == 1:
        found[:, present[0]] = 1
        return found
    model = LogisticRegression(C=strength, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of separable classes under a large C: judged by its loss
        model.fit(scaler.transform(train), labels)
    found[:, model.classes_] = model.predict_proba(scaler.transform(asked))
    return found
