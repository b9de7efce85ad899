"""Scale: which copies of an image were not blacked out, and how bright is each?

What it is: a row is an image and n copies of it (default 3), each multiplied by its weight. Two copies in random places
have weights p and 1 - p, p ~ Beta(5, 8), the others have weight 0 and are black. With n = 1 there is one weight, p.

Labels: `target=classification` asks for 1 where the weight is not 0 (one logit a copy, binary cross-entropy);
`target=regression` for the weights (softmax over the copies and cross-entropy against soft targets, or with n = 1 a
sigmoid and the squared error). Classification needs n >= 3: below, every label is 1.

Best constant: for n = 3 0.6365 (classification: the entropy of 2/3) or ln 3 = 1.0986 (regression); for n = 1 0.0169,
the variance of p. A constant gets the exact pair right in 1 of 3 rows, and R2 = 0.

Shortcuts: the mean brightness of each copy is the answer. That is what the task is for: whoever fails here compares
nothing at all. So nothing is done against it, `hardened` changes nothing, and a score here says nothing of vision.

Oracle: the brightness of each copy over that of the image.

Easier versions: `ratio=equal`: both weights are one half.

Source: the notes (T9), as a check that had to succeed.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import Field, model_validator
from torch import nn

from sslwang.data.pictures import Shown
from sslwang.data.pixels import MEAN, STD, normalised
from sslwang.losses import LOSSES
from sslwang.models.pairs import HEADS, PairNet
from sslwang.pretext import Pretext, PretextItems, PretextSettings
from sslwang.roles import reordered
from sslwang.tasks._likeness import chosen
from sslwang.tasks.unmix import exact_pair, per_label

NEAR = 0.1  # a weight said this near to the true one is shown as right


class ScaleSettings(PretextSettings):
    """Settings of `scale`: w = (p, 1 - p), p ~ Beta(alpha, beta), for two of n copies."""

    n: int = Field(3, ge=1, le=8)
    target: Literal["classification", "regression"] = "classification"
    ratio: Literal["drawn", "equal"] = "drawn"
    alpha: float = Field(5.0, gt=0)
    beta: float = Field(8.0, gt=0)

    @model_validator(mode="after")
    def _possible(self):
        if self.n < 3 and self.target == "classification":
            raise ValueError("classification needs n >= 3: below, no copy is black and every label is 1")
        if self.n == 1 and self.ratio == "equal":
            raise ValueError("ratio=equal needs n >= 2: one copy of weight 1/2 in every row asks for nothing")
        return self


class ScaleItems(PretextItems):
    """An image and its copies. A row is (image, weights), a batch (image, copy 1, ..., copy n, labels or weights)."""

    settings: ScaleSettings

    def __init__(self, side, count, seed, split, settings):
        super().__init__(side, count, seed, split, settings)
        self.inputs = 1 + settings.n

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        p = rng.beta(s.alpha, s.beta) if s.ratio == "drawn" else 0.5
        weights = np.zeros(s.n, dtype=np.float32)
        places = rng.permutation(s.n)[:2]
        weights[places] = (p, 1 - p)[: s.n]
        return self.side.tiles(rng, s.size, 1), weights

    def batch(self, images: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (image, copies, target): images (B, 3, S, S) float32, target (B, n) float32."""
        copies = normalised(weights[:, :, None, None, None] * images)
        target = weights if self.settings.target == "regression" else (weights > 0).float()
        return normalised(images[:, 0]), *copies.unbind(1), target

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The image and each copy, as bright as they are beside each other, with what was said of it."""
        *images, target = batch
        regression, said, answer = self.settings.target == "regression", None, None
        if outputs is not None and regression:
            said = weights_of(outputs)
        elif outputs is not None:
            said, answer = outputs.sigmoid(), chosen(outputs, target)
        rows = []
        for r in range(len(target)):
            captions, right = ["image"], [None]
            for k, truth in enumerate(target[r]):
                captions.append(f"weight {truth:.2f}" if regression else f"black: {'no' if truth else 'yes'}")
                right.append(None)
                if said is not None:
                    captions[-1] += f"\nsaid {said[r, k]:.2f}"
                    near = (said[r, k] - truth).abs() < NEAR if regression else answer[r, k] == truth.bool()
                    right[-1] = bool(near)
            rows.append(Shown([x[r] for x in images], captions, right, together=True))
        return rows


def weights_of(outputs: torch.Tensor) -> torch.Tensor:
    """Weights (B, n) meant by outputs: shares, or with n = 1 each a number in [0, 1]."""
    return outputs.softmax(1) if outputs.shape[1] > 1 else outputs.sigmoid()


def weights_explained(outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Coefficient of determination of the weights; over all of a row's, or with n = 1 over the rows."""
    spread = (target - (1 / target.shape[1] if target.shape[1] > 1 else target.mean())).square().sum()
    return (1 - (weights_of(outputs) - target).square().sum() / spread.clamp_min(1e-12)).item()


class Scale(Pretext):
    """Scale under given settings. Roles of a row are the image (0) and its copies (1 to n)."""

    Settings: ClassVar[type[PretextSettings]] = ScaleSettings
    Items: ClassVar[type[PretextItems]] = ScaleItems
    HEADS = tuple(HEADS)
    SHORTCUTS = "the mean brightness of each copy is the answer; nothing is done against it, the task is a check"

    def __init__(self, settings: PretextSettings | None = None):
        super().__init__(settings)
        if self.settings.target == "classification":
            self.metric, self.chance = "exact pair", 1 / math.comb(self.settings.n, 2)
        else:
            self.metric, self.chance = "R2", 0.0

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        s = self.settings
        return ("bce",) if s.target == "classification" else ("soft-ce", "mse") if s.n > 1 else ("mse",)

    def loss(self) -> nn.Module:
        """See `Pretext.loss`; one weight alone is no share."""
        s = self.settings
        return LOSSES["mse"](s.loss.reduction, activation="sigmoid") if s.n == 1 else super().loss()

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        return PairNet(encoder, self.head_kind)

    def metrics(self) -> list:
        """Exact pair and share of labels, or R2."""
        classes = self.settings.target == "classification"
        return [AccumMetric(f, flatten=False) for f in ((exact_pair, per_label) if classes else (weights_explained,))]

    def best_constant(self) -> float:
        """Entropy of the base rate (bce), ln n (soft-ce), variance of the weights (mse); times the count if summed."""
        s = self.settings
        mean = s.alpha / (s.alpha + s.beta) if s.ratio == "drawn" else 0.5
        variance = mean * (1 - mean) / (s.alpha + s.beta + 1) if s.ratio == "drawn" else 0.0
        if self.loss_kind == "bce":
            rate = 2 / s.n
            value, count = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate), s.n
        elif self.loss_kind == "soft-ce":
            value, count = math.log(s.n), 1
        elif s.n == 1:
            value, count = variance, 1
        else:
            value, count = (mean**2 + (1 - mean) ** 2 + 2 * variance) / s.n - 1 / s.n**2, s.n
        return value * (count * s.bs if s.loss.reduction == "sum" else 1)

    def titles(self) -> list[str]:
        """The image, then its copies."""
        return ["image", *(f"copy {i + 1}" for i in range(self.settings.n))]

    def easier(self) -> dict[str, Pretext]:
        """`ratio=equal`, where there are two weights."""
        return {"ratio=equal": self.under(ratio="equal")} if self.settings.n > 1 else {}

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Maps of the encoder, (rows, n + 1, C, h, w)."""
        return model.encode(*inputs)

    def permuted(self, batch: tuple, order: list[int]) -> tuple:
        """The batch with copy k replaced by copy `order[k]`, targets alike."""
        return reordered(batch, order)

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Exact pair, or R2 with values below 0 counted as 0."""
        if self.settings.target == "classification":
            return exact_pair(outputs, targets[0])
        return max(0.0, weights_explained(outputs, targets[0]))

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """Brightness of the copies over that of the image."""
        batch = self.under(items=rows, bs=rows, inputs="images").loaders(seed).train.one_batch()
        image, *copies = ((x * STD + MEAN).mean((1, 2, 3)) for x in batch[:-1])
        weights = (torch.stack(copies, 1) / image[:, None]).clamp(1e-6, 1 - 1e-6)
        return self.score(weights.log() if self.settings.n > 1 else weights.logit(), batch[-1])
