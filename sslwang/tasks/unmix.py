"""Unmix: which of the sources were mixed, and in what ratio.

What it is: a row is one mixture and n sources (default 3). Two sources in random places were mixed with weights p and
1 - p, p ~ Beta(5, 8); the others have weight 0. The network sees the mixture and all sources.

Labels: `target=classification` asks for 1 where the weight is not 0 (one logit a source, binary cross-entropy);
`target=regression` asks for the weights (softmax over the sources, cross-entropy against soft targets). With n = 2
every label of the classification would be 1, so it is refused.

Best constant: for n = 3 the loss of the best constant is 0.6365 (classification: the entropy of 2/3) or ln 3 = 1.0986
(regression); a constant gets the exact pair right in 1 of 3 rows, and R2 = 0. In regression R2 = 0.734 means "knows
the pair, not the ratio".

Shortcuts: raw unmixing needs no vision. Least squares on the pixels recovers the weights, and even three numbers an
image do: the mean colour of the mixture lies on the line between those of its two sources (right in more than 99 % of
rows). So by default (`hardened=true`) every image is standardised by itself, channel by channel, which takes the mean
colour away, and each source is shifted and flipped (left-right and upside-down) independently of the mixture, which
takes the alignment of the pixels away. Over 2000 hardened rows the mean colour then finds the pair in 0.36 of them and
least squares in 0.41 (chance 0.33; 1.00 raw): what similarity of coarse light and shade is left.

Oracle: least squares on the pixels of the raw task.

Easier versions: `mode=dup_src`: the mixture is a copy of one source, which? `mode=dup_mix`: one source of weight 0 is
replaced by a copy of the mixture, which? `mode=scale`: the sources are one image multiplied by the weights.

Source: mixup (Zhang et al. 2018) turned into a question; the two-of-n form and its easier versions come from the notes
that this pipeline was started from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import AccumMetric
from fastai.optimizer import Optimizer
from pydantic import Field, model_validator
from torch import nn

from diagnose.task import Task
from sslwang.data.pictures import Shown
from sslwang.data.pixels import MEAN, STD, normalised, standardised
from sslwang.data.splits import Side
from sslwang.losses import LOSSES
from sslwang.models.encoder import Encoder
from sslwang.models.pairs import HEADS, PairNet
from sslwang.optimizers import OPTIMIZERS
from sslwang.pretext import DataSettings, Pretext, PretextItems, PretextSettings, pretext_learner
from sslwang.solvers import least_squares, mean_colour_pair

Mode = Literal["unmix", "dup_src", "dup_mix", "scale"]
Target = Literal["classification", "regression"]


class UnmixDataSettings(DataSettings):
    """`shift` is how far a source may move against the mixture, in px at `size`."""

    shift: int = Field(4, ge=0, le=64)


class UnmixSettings(PretextSettings):
    """Settings of `unmix`: w = (p, 1 - p), p ~ Beta(alpha, beta), for two of n sources."""

    n: int = Field(3, ge=2, le=5)
    target: Target = "classification"
    mode: Mode = "unmix"
    alpha: float = Field(5.0, gt=0)
    beta: float = Field(8.0, gt=0)
    opt: Literal["adamw", "adam", "sgd"] = "sgd"
    lr: float = Field(0.1, gt=0)
    data: UnmixDataSettings = UnmixDataSettings()

    @model_validator(mode="after")
    def _possible(self):
        if self.n == 2 and self.target == "classification" and self.mode in ("unmix", "scale"):
            raise ValueError(
                "n=2 classification is degenerate: both sources are always mixed, every label is 1; use n >= 3"
            )
        if self.n == 2 and self.mode == "dup_mix":
            raise ValueError("n=2 has no source of weight 0 that dup_mix could replace; use n >= 3")
        return self


class UnmixItems(PretextItems):
    """Rows of unmix: a mixture and n sources in, labels or weights out.

    A row is (images, weights, slot): the tiles that are mixed and, if hardened, those that are shown after them,
    (n or 2 n, S, S, 3) uint8, the weights (n,) and the source that a duplicate involves. A batch is (mixture,
    source 1, ..., source n, target).
    """

    def __init__(self, side: Side, count: int, seed: int, split: str, settings: UnmixSettings):
        super().__init__(side, count, seed, split, settings)
        self.inputs = 1 + settings.n

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        first, second, *rest = rng.permutation(s.n)
        weights = np.zeros(s.n, dtype=np.float32)
        weights[first] = rng.beta(s.alpha, s.beta)
        weights[second] = 1 - weights[first]
        slot = rest[0] if s.mode == "dup_mix" else first
        if s.mode == "scale":
            return self.side.tiles(rng, s.size, 1), weights, slot
        if not s.hardened:
            return self.side.tiles(rng, s.size, s.n, s.data.distinct), weights, slot
        shift = s.data.shift
        tiles = self.side.tiles(rng, s.size + 2 * shift, s.n, s.data.distinct)
        middle = tiles[:, shift : shift + s.size, shift : shift + s.size]
        return np.concatenate([middle, *(self._moved(tile, rng)[None] for tile in tiles)]), weights, slot

    def _moved(self, tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.settings.size
        y, x = rng.integers(0, tile.shape[0] - size + 1, 2)
        window = tile[y : y + size, x : x + size]
        across, down = rng.choice((1, -1), 2)
        return window[::down, ::across]

    def batch(self, images: torch.Tensor, weights: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (mixture, sources 1 to n, target): images (B, 3, S, S) float32, target (B, n) float32."""
        s = self.settings
        rows = torch.arange(len(images), device=images.device)
        if s.mode == "scale":
            mixture = images[:, 0]
            sources = weights[:, :, None, None, None] * mixture[:, None]
        else:
            mixture, sources = torch.einsum("bn,bnchw->bchw", weights, images[:, : s.n]), images[:, -s.n :]
        adjust = standardised if s.hardened and s.mode != "scale" else normalised
        mixture, sources = adjust(mixture), adjust(sources)
        if s.mode == "dup_src":
            mixture = sources[rows, slots]
        elif s.mode == "dup_mix":
            sources[rows, slots] = mixture
        if s.mode in ("dup_src", "dup_mix"):
            weights = nn.functional.one_hot(slots, s.n).float()
        target = weights if s.target == "regression" else (weights > 0).float()
        return mixture, *sources.unbind(1), target

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The mixture, and each source with its label or weight; predicted: probability or weight, right or wrong."""
        mixture, *sources, target = batch
        regression = self.settings.target == "regression"
        name = "weight" if regression else "mixed"
        values = None if outputs is None else (outputs.softmax(1) if regression else outputs.sigmoid())
        rows = []
        for r in range(len(target)):
            captions, right = ["mixture"], [None]
            for k in range(len(sources)):
                truth = f"{target[r, k]:.2f}" if regression else ("yes" if target[r, k] else "no")
                captions.append(f"{name}: {truth}")
                right.append(None)
                if values is not None:
                    captions[-1] += f", said {values[r, k]:.2f}"
                    wrong = (values[r, k] - target[r, k]).abs() >= (0.15 if regression else 0.5)
                    right[-1] = not bool(wrong)
            rows.append(Shown([mixture[r], *(x[r] for x in sources)], captions, right))
        return rows


def exact_pair(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Share of rows whose k highest logits are exactly the k sources with label 1; k is the row's own count."""
    rank = logits.argsort(1, descending=True).argsort(1)
    return ((rank < target.sum(1, keepdim=True)) == target.bool()).all(1).float().mean().item()


def per_label(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Share of labels on the right side of probability 1/2."""
    return ((logits > 0) == target.bool()).float().mean().item()


def r2(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Coefficient of determination of softmax(logits) over all weights; their mean is 1/n in any batch."""
    error = (logits.softmax(1) - target).square().sum()
    return (1 - error / (target - 1 / target.shape[1]).square().sum()).item()


def larger_weight(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Share of rows whose highest output is the source with the largest weight."""
    return (logits.argmax(1) == target.argmax(1)).float().mean().item()


def unmix_metrics(target: Target) -> list[AccumMetric]:
    """Exact pair and share of labels (classification), or R2 and whether the larger weight is found."""
    functions = (exact_pair, per_label) if target == "classification" else (r2, larger_weight)
    return [AccumMetric(f, flatten=False) for f in functions]


def unmix_learner(
    dls: DataLoaders,
    target: Target = "classification",
    head: str = "spatial",
    norm: str = "group",
    loss_func: nn.Module | None = None,
    opt_func: Callable[..., Optimizer] = OPTIMIZERS["sgd"],
    lr: float = 0.1,
    wd: float = 0.01,
) -> Learner:
    """Learner for batches (mixture, sources 1 to n, target), with its weights drawn from torch's current stream.

    Args:
        dls: loaders of `UnmixItems` or anything with such batches.
        target: decides loss and metrics unless `loss_func` is given.
        head: `spatial` or `pooled`.
        norm: `group` or `batch`.
        loss_func: of logits (B, n) and target (B, n).
        opt_func, lr, wd: as in fastai's Learner.
    """
    if loss_func is None:
        loss_func = LOSSES["bce" if target == "classification" else "soft-ce"]()
    return pretext_learner(dls, PairNet(Encoder(norm), head), loss_func, unmix_metrics(target), opt_func, lr, wd)


class Unmix(Pretext):
    """Unmix under given settings. The roles of a row are the mixture (0) and the sources (1 to n)."""

    Settings: ClassVar[type[PretextSettings]] = UnmixSettings
    Items: ClassVar[type[PretextItems]] = UnmixItems
    HEADS = tuple(HEADS)
    SHORTCUTS = (
        "least squares on the pixels and the line between two mean colours find the pair without vision; every image "
        "is standardised by itself, and each source is shifted and flipped independently of the mixture"
    )
    settings: UnmixSettings

    def __init__(self, settings: UnmixSettings | None = None):
        super().__init__(settings)
        s = self.settings
        one_hot = s.mode in ("dup_src", "dup_mix")
        if s.target == "classification":
            self.metric, self.chance = "exact pair", 1 / (s.n if one_hot else math.comb(s.n, 2))
        else:
            self.metric, self.chance = "R2", 0.0

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("bce",) if self.settings.target == "classification" else ("soft-ce", "mse")

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        return PairNet(encoder, self.head_kind)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return unmix_metrics(self.settings.target)

    def best_constant(self) -> float:
        """Entropy of the base rate (bce), ln n (soft-ce), variance of the weights (mse); times the count if summed."""
        s = self.settings
        one_hot = s.mode in ("dup_src", "dup_mix")
        if self.loss_kind == "bce":
            rate = (1 if one_hot else 2) / s.n
            value, count = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate), s.bs * s.n
        elif self.loss_kind == "soft-ce":
            value, count = math.log(s.n), s.bs
        else:
            mean = s.alpha / (s.alpha + s.beta)
            variance = mean * (1 - mean) / (s.alpha + s.beta + 1)
            squares = 1.0 if one_hot else mean**2 + (1 - mean) ** 2 + 2 * variance
            value, count = squares / s.n - 1 / s.n**2, s.bs * s.n
        return value * (count if s.loss.reduction == "sum" else 1)

    def titles(self) -> list[str]:
        """The mixture, then the sources."""
        return ["mixture", *(f"source {i + 1}" for i in range(self.settings.n))]

    def easier(self) -> dict[str, Task]:
        """`dup_src`, `dup_mix` (needs n > 2) and `scale`, under the same settings."""
        modes = [m for m in ("dup_src", "dup_mix", "scale") if m != "dup_mix" or self.settings.n > 2]
        return {m: self.under(mode=m) for m in modes}

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Maps of the encoder, (rows, n + 1, C, h, w)."""
        return model.encode(*inputs)

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """Least squares on the pixels of the raw task; see `Pretext.oracle`. A copy is found by the distance to it."""
        raw = self.under(hardened=False, items=rows, bs=rows, inputs="images")
        mixture, *sources, target = raw.loaders(seed).train.one_batch()
        if self.settings.mode in ("dup_src", "dup_mix"):
            answer = -(torch.stack(sources, 1) - mixture[:, None]).square().flatten(2).mean(2)
        elif self.settings.mode == "scale":  # of one image: the pixel values, taken back to [0, 1], have these means
            answer = torch.stack([(x * STD + MEAN).mean((1, 2, 3)) for x in sources], 1)
            answer = answer / answer.sum(1, keepdim=True)
        else:
            answer = least_squares(mixture, sources)
        if self.settings.target == "classification":
            return exact_pair(answer, target)
        return max(0.0, r2(answer.clamp_min(1e-9).log(), target))

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        if self.settings.target == "regression":
            return {}
        solvers = {"mean colour": mean_colour_pair, "least squares": least_squares}
        return {
            n: lambda batch, solve=solve: exact_pair(solve(batch[0], batch[1:-1]), batch[-1])
            for n, solve in solvers.items()
        }

    def twins(self, batch: tuple) -> torch.Tensor | None:
        """See `Task.twins`. `easier()["dup_src"]` has one pair in every row."""
        images = torch.stack(batch[:-1], dim=1).flatten(2)
        pairs = []
        for i in range(images.shape[1]):
            for j in range(i + 1, images.shape[1]):
                rows = (images[:, i] == images[:, j]).all(1).nonzero()
                pairs.append(nn.functional.pad(rows, (0, 2)) + torch.tensor([0, i, j], device=rows.device))
        found = torch.cat(pairs)
        return found if len(found) else None

    def permuted(self, batch: tuple, order: list[int]) -> tuple:
        """The batch with source k replaced by source `order[k]`, targets alike."""
        mixture, *sources, target = batch
        return mixture, *(sources[k] for k in order), target[:, order]

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Exact pair, or R2 with values below 0 counted as 0."""
        if self.settings.target == "classification":
            return exact_pair(outputs, targets[0])
        return max(0.0, r2(outputs, targets[0]))
