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

Easier versions (`mode`): `dup_src`: the mixture is a copy of one source, which? `dup_mix`: one source of weight 0 is
replaced by a copy of the mixture, which? `scale`: the sources are one image multiplied by the weights. `noise` is no
version to be learned: every image is noise, the labels are kept, and whoever beats the best constant has a leak.

Source: mixup (Zhang et al. 2018) turned into a question; the two-of-n form and its easier versions come from the notes
that this pipeline was started from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import AccumMetric
from fastai.optimizer import Optimizer
from pydantic import Field, model_validator
from torch import nn

from diagnose.task import Settings, Task
from sslwang.data.loaders import Items, dataloaders
from sslwang.data.splits import Side, sides
from sslwang.losses import LOSSES
from sslwang.models.pairs import PairNet
from sslwang.optimizers import OPTIMIZERS

MEAN, STD = 0.45, 0.25  # of photographs in [0, 1], all channels alike; where images keep their own brightness
LEAST_STD = 1e-2  # of a channel; flatter ones are not blown up into noise

Mode = Literal["unmix", "dup_src", "dup_mix", "scale", "noise"]
Target = Literal["classification", "regression"]


class LossSettings(Settings):
    """`auto` is bce for classification and soft-ce for regression."""

    kind: Literal["auto", "bce", "soft-ce", "mse"] = "auto"
    reduction: Literal["mean", "sum"] = "mean"


class EncoderSettings(Settings):
    """The encoder that all images share."""

    norm: Literal["group", "batch"] = "group"


class HeadSettings(Settings):
    """How a source is compared with the mixture."""

    kind: Literal["spatial", "pooled"] = "spatial"


class DataSettings(Settings):
    """Where the images come from.

    `source` is photos, imagewang or a folder of images; `distinct` takes the sources of a row from different images, as
    far as there are enough; `shift` is how far a source may move against the mixture, in px at `size`.
    """

    source: str = "photos"
    split: Literal["region", "photo"] = "region"
    distinct: bool = True
    shift: int = Field(4, ge=0, le=64)
    workers: int = Field(0, ge=0, le=64)


class UnmixSettings(Settings):
    """Settings of `unmix`; every one can be given as `--set name=value`."""

    n: int = Field(3, ge=2, le=5)
    target: Target = "classification"
    mode: Mode = "unmix"
    hardened: bool = True
    alpha: float = Field(5.0, gt=0)
    beta: float = Field(8.0, gt=0)
    size: int = Field(64, ge=16, le=512)
    items: int = Field(4800, ge=1)
    valid_items: int = Field(960, ge=1)
    bs: int = Field(48, ge=1)
    opt: Literal["adamw", "adam", "sgd"] = "sgd"
    lr: float = Field(0.1, gt=0)
    wd: float = Field(0.01, ge=0)
    loss: LossSettings = LossSettings()
    encoder: EncoderSettings = EncoderSettings()
    head: HeadSettings = HeadSettings()
    data: DataSettings = DataSettings()

    @model_validator(mode="after")
    def _possible(self):
        if self.n == 2 and self.target == "classification" and self.mode in ("unmix", "scale", "noise"):
            raise ValueError(
                "n=2 classification is degenerate: both sources are always mixed, every label is 1; use n >= 3"
            )
        if self.n == 2 and self.mode == "dup_mix":
            raise ValueError("n=2 has no source of weight 0 that dup_mix could replace; use n >= 3")
        if (self.loss.kind == "bce") != (self.target == "classification") and self.loss.kind != "auto":
            raise ValueError(f"loss.kind={self.loss.kind} does not fit target={self.target}")
        return self

    @property
    def loss_kind(self) -> str:
        """The loss meant by `loss.kind`."""
        if self.loss.kind != "auto":
            return self.loss.kind
        return "bce" if self.target == "classification" else "soft-ce"


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Each image (..., 3, H, W) with mean 0 and standard deviation 1 in every channel."""
    centred = images - images.mean((-2, -1), keepdim=True)
    return centred / centred.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(LEAST_STD)


class UnmixItems(Items):
    """Rows of unmix: a mixture and n sources in, labels or weights out.

    An item is (parts, sources, weights, slot): the tiles that are mixed and those that are shown, (k, S, S, 3) uint8,
    the weights (n,) and the source that a duplicate involves. A batch is (mixture, source 1, ..., source n, target).

    Args:
        side: the images and the part of them that may be shown.
        count, seed, split: see `Items`.
        settings: of the task.
    """

    def __init__(self, side: Side, count: int, seed: int, split: str, settings: UnmixSettings):
        super().__init__(count, seed, split)
        self.side, self.settings = side, settings

    def draw(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        first, second, *rest = rng.permutation(s.n)
        weights = np.zeros(s.n, dtype=np.float32)
        weights[first] = rng.beta(s.alpha, s.beta)
        weights[second] = 1 - weights[first]
        slot = rest[0] if s.mode == "dup_mix" else first
        if s.mode == "noise":
            noise = np.clip(rng.standard_normal((s.n + 1, s.size, s.size, 3), dtype=np.float32), 0, 1) * 255
            noise = noise.astype(np.uint8)
            return noise[:1], noise[1:], weights, slot
        if s.mode == "scale":
            tile = self.side.tiles(rng, s.size, 1)
            return tile, tile, weights, slot
        if not s.hardened:
            tiles = self.side.tiles(rng, s.size, s.n, s.data.distinct)
            return tiles, tiles, weights, slot
        shift = s.data.shift
        tiles = self.side.tiles(rng, s.size + 2 * shift, s.n, s.data.distinct)
        middle = tiles[:, shift : shift + s.size, shift : shift + s.size]
        return middle, np.stack([self._moved(tile, rng) for tile in tiles]), weights, slot

    def _moved(self, tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.settings.size
        y, x = rng.integers(0, tile.shape[0] - size + 1, 2)
        window = tile[y : y + size, x : x + size]
        across, down = rng.choice((1, -1), 2)
        return window[::down, ::across]

    def collate(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """Batch (mixture, sources 1 to n, target): images (B, 3, S, S) float32, target (B, n) float32."""
        s = self.settings
        parts, sources = (torch.from_numpy(np.stack([i[k] for i in items])).permute(0, 1, 4, 2, 3) for k in (0, 1))
        weights = torch.from_numpy(np.stack([i[2] for i in items]))
        slots = torch.tensor([int(i[3]) for i in items])
        rows = torch.arange(len(items))
        parts, sources = parts / 255, sources / 255
        if s.mode in ("noise", "scale"):
            mixture = parts[:, 0]
            sources = weights[:, :, None, None, None] * mixture[:, None] if s.mode == "scale" else sources
        else:
            mixture = torch.einsum("bn,bnchw->bchw", weights, parts)
        if s.hardened and s.mode != "scale":
            mixture, sources = standardised(mixture), standardised(sources)
        else:
            mixture, sources = (mixture - MEAN) / STD, (sources - MEAN) / STD
        if s.mode == "dup_src":
            mixture = sources[rows, slots]
        elif s.mode == "dup_mix":
            sources[rows, slots] = mixture
        if s.mode in ("dup_src", "dup_mix"):
            weights = nn.functional.one_hot(slots, s.n).float()
        target = weights if s.target == "regression" else (weights > 0).float()
        return mixture.contiguous(), *(x.contiguous() for x in sources.unbind(1)), target


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
    classify = target == "classification"
    if loss_func is None:
        loss_func = LOSSES["bce" if classify else "soft-ce"]()
    metrics = [AccumMetric(f, flatten=False) for f in ((exact_pair, per_label) if classify else (r2, larger_weight))]
    model = PairNet(head, norm).to(dls.device)
    return Learner(dls, model, loss_func, opt_func=opt_func, lr=lr, wd=wd, metrics=metrics)


class Unmix(Task):
    """Unmix under given settings. The roles of a row are the mixture (0) and the sources (1 to n)."""

    id = "unmix"
    Settings: ClassVar[type[Settings]] = UnmixSettings
    settings: UnmixSettings

    def __init__(self, settings: UnmixSettings | None = None):
        super().__init__(settings)
        s = self.settings
        one_hot = s.mode in ("dup_src", "dup_mix")
        if s.target == "classification":
            self.metric, self.chance = "exact pair", 1 / (s.n if one_hot else math.comb(s.n, 2))
        else:
            self.metric, self.chance = "R2", 0.0

    def items(self, seed: int, split: str) -> UnmixItems:
        """Data set of one split, `train` or `valid`."""
        s = self.settings
        side = sides(s.data.source, s.data.split)[split == "valid"]
        return UnmixItems(side, s.items if split == "train" else s.valid_items, seed, split, s)

    def loaders(self, seed: int, device: str | torch.device = "cpu") -> DataLoaders:
        """See `Task.loaders`. Batches are (mixture, source 1, ..., source n, target)."""
        s = self.settings
        return dataloaders(self.items(seed, "train"), self.items(seed, "valid"), s.bs, device, s.data.workers)

    def learner(self, seed: int, device: str | torch.device = "cpu") -> Learner:
        """See `Task.learner`. torch's own random stream is left as it was."""
        s = self.settings
        dls = self.loaders(seed, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loss_func = LOSSES[s.loss_kind](s.loss.reduction)
            return unmix_learner(dls, s.target, s.head.kind, s.encoder.norm, loss_func, OPTIMIZERS[s.opt], s.lr, s.wd)

    def best_constant(self) -> float:
        """Entropy of the base rate (bce), ln n (soft-ce), variance of the weights (mse); times the count if summed."""
        s = self.settings
        one_hot = s.mode in ("dup_src", "dup_mix")
        if s.loss_kind == "bce":
            rate = (1 if one_hot else 2) / s.n
            value, count = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate), s.bs * s.n
        elif s.loss_kind == "soft-ce":
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
        return {m: type(self)(self.settings.model_copy(update={"mode": m})) for m in modes}

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Maps of the encoder, (rows, n + 1, C, h, w)."""
        return model.encode(*inputs)

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
