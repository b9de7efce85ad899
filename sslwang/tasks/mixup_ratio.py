"""Mixup ratio: two images were mixed; how much of the larger share is there?

What it is: one mixture x = p s1 + (1 - p) s2 of two images, p ~ Beta(5, 8); the sources are not shown. Each source is
standardised by itself before it is mixed, so that a share of p is a share of what is seen.

Labels: the larger of p and 1 - p, in [0.5, 1]. `target=share`: one output, which the network squashes into [0.5, 1],
squared (or absolute) error. `target=bins`: which of five equal parts of [0.5, 1] it lies in; softmax, cross-entropy.

Best constant: for Beta(5, 8) the larger share has mean 0.645 and variance 0.0092, which is the squared error of the
best constant; R2 is 0. Of five bins the commonest is right in 0.38 of the rows.

Shortcuts: the contrast of the mixture, which is sqrt(p^2 + (1 - p)^2) for sources that have nothing in common; so by
default the mixture too is standardised, channel by channel.

Oracle: least squares on the pixels, given the sources.

Easier versions: `mode=gratings`: the sources are a horizontal and a vertical grating of random period and phase.

Source: mixup (Zhang et al. 2018) turned into a question, as in the notes that this pipeline was started from. After
5,000 steps a small encoder has learned little (R2 0.13 on unseen regions, 0.09 on unseen photographs; see
reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import Field
from torch import nn

from sslwang.data.pictures import Shown
from sslwang.data.pixels import standardised
from sslwang.losses import LOSSES
from sslwang.models.single import SingleNet
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.solvers import least_squares
from sslwang.statistic_solvers import fitted
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy

BINS = 5
LOW = 0.5  # least share of the larger of two
POINTS = 200_000  # at which the density of shares is summed
PERIODS = (6, 20)  # px of a grating at size 64


class MixupRatioSettings(PretextSettings):
    """Settings of `mixup-ratio`: p ~ Beta(alpha, beta)."""

    target: Literal["share", "bins"] = "share"
    mode: Literal["plain", "gratings"] = "plain"
    alpha: float = Field(5.0, gt=0)
    beta: float = Field(8.0, gt=0)


def larger_shares(alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of max(p, 1 - p) for p ~ Beta(alpha, beta) at the middles of equal steps, and their probabilities."""
    p = (np.arange(POINTS) + 0.5) / POINTS
    density = (alpha - 1) * np.log(p) + (beta - 1) * np.log1p(-p)
    weights = np.exp(density - density.max())
    return np.maximum(p, 1 - p), weights / weights.sum()


def grating(rng: np.random.Generator, size: int) -> np.ndarray:
    """A grey sine of random period and phase along the rows: (size, size, 3) uint8."""
    period = rng.uniform(*PERIODS) * size / 64
    wave = np.sin(2 * np.pi * (np.arange(size) / period + rng.random()))
    line = np.round(127.5 + 127 * wave).astype(np.uint8)
    return np.broadcast_to(line[None, :, None], (size, size, 3))


class MixupRatioItems(ClassItems):
    """Rows (sources (2, S, S, 3), p). A batch is (mixture (B, 3, S, S), larger share (B,) float32 or its bin int64)."""

    settings: MixupRatioSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        p = np.float32(rng.beta(s.alpha, s.beta))
        if s.mode == "gratings":
            upright, lying = grating(rng, s.size), grating(rng, s.size).transpose(1, 0, 2)
            return np.stack([upright, lying]), p
        return self.side.tiles(rng, s.size, 2, s.data.distinct), p

    def batch(self, images: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        s = self.settings
        sources = standardised(images)
        weights = torch.stack([p, 1 - p], 1)
        mixture = torch.einsum("bk,bkchw->bchw", weights, sources)
        share = weights.amax(1)
        if s.target == "bins":
            share = ((share - LOW) / (1 - LOW) * BINS).long().clamp(0, BINS - 1)
        return standardised(mixture) if s.hardened else mixture, share

    def words(self) -> Sequence[str]:
        """The bins."""
        edges = [LOW + (1 - LOW) * k / BINS for k in range(BINS + 1)]
        return [f"larger share {a:.1f} to {b:.1f}" for a, b in itertools.pairwise(edges)]

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The mixture and the larger share; said is right within 0.05."""
        if self.settings.target == "bins":
            return super().shown(batch, outputs)
        rows = []
        for r, (mixture, share) in enumerate(zip(*batch)):
            shown = Shown([mixture], [f"larger share {share:.2f}"], [None])
            if outputs is not None:
                said = outputs[r].float()
                shown.captions[0] += f", said {said:.2f}"
                shown.right[0] = bool((said - share).abs() < 0.05)
            rows.append(shown)
        return rows


def r2(outputs: torch.Tensor, share: torch.Tensor) -> float:
    """Coefficient of determination of outputs (B,) for shares (B,)."""
    spread = (share - share.mean()).square().sum().clamp_min(1e-9)
    return (1 - (outputs.float() - share).square().sum() / spread).item()


class ShareNet(SingleNet):
    """`SingleNet` with one output, squashed into [0.5, 1]."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to shares (B,)."""
        return LOW + (1 - LOW) * super().forward(images).sigmoid()


class MixupRatio(ClassTask):
    """Mixup ratio under given settings."""

    Settings: ClassVar[type[PretextSettings]] = MixupRatioSettings
    Items: ClassVar[type[PretextItems]] = MixupRatioItems
    SHORTCUTS = "the contrast of a mixture falls with its evenness; the mixture is standardised too"
    GENERALISES = False
    EASIER = {"gratings": {"mode": "gratings"}}
    settings: MixupRatioSettings

    def __init__(self, settings: MixupRatioSettings | None = None):
        super().__init__(settings)
        if self.settings.target == "share":
            self.metric, self.chance = "R2", 0.0

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("mse", "l1") if self.settings.target == "share" else ("ce",)

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        return ShareNet(encoder, self.head_kind) if self.settings.target == "share" else super().network(encoder)

    def loss(self) -> nn.Module:
        """See `Pretext.loss`."""
        if self.settings.target == "bins":
            return super().loss()
        return LOSSES[self.loss_kind](self.settings.loss.reduction, activation="none")

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        return () if self.settings.target == "share" else (BINS,)

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        value, weight = larger_shares(self.settings.alpha, self.settings.beta)
        bins = np.minimum((value - LOW) / (1 - LOW) * BINS, BINS - 1).astype(int)
        return [np.bincount(bins, weight, BINS).tolist()]

    def best_constant(self) -> float | None:
        """Variance of the larger share, or mean distance from its median; of bins as `ClassTask`."""
        s = self.settings
        if s.target == "bins":
            return super().best_constant()
        value, weight = larger_shares(s.alpha, s.beta)
        if self.loss_kind == "mse":
            loss = np.sum(weight * (value - np.sum(weight * value)) ** 2)
        else:
            order = value.argsort()
            median = value[order][np.searchsorted(np.cumsum(weight[order]), 0.5)]
            loss = np.sum(weight * np.abs(value - median))
        return float(loss) * (s.bs if s.loss.reduction == "sum" else 1)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return [AccumMetric(r2, flatten=False)] if self.settings.target == "share" else super().metrics()

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """R2 with values below 0 counted as 0, or share of bins that are right."""
        return max(0.0, r2(outputs, *targets)) if self.settings.target == "share" else accuracy(outputs, *targets)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, target="share", loss={"kind": "auto"})
        images, p = items.first(rows)
        mixture, share = items.batch(images, p)
        return max(0.0, r2(least_squares(mixture, standardised(images).unbind(1)).amax(1), share))

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        if self.settings.target == "bins":
            return {}

        def contrast(batch: tuple) -> float:
            return max(0.0, r2(fitted(batch[0].std((-2, -1)), batch[1][:, None])[:, 0], batch[1]))

        return {"contrast": contrast}
