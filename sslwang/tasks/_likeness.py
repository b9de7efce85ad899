"""What tasks share that compare one image with n others: rows of views, decisions, constants, probes and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from sslwang.data.pictures import Shown
from sslwang.data.pixels import normalised, standardised
from sslwang.data.views import Distortion, distorted
from sslwang.losses import LOSSES
from sslwang.models.pairs import HEADS, PairNet
from sslwang.pretext import Pretext, PretextItems, PretextSettings
from sslwang.roles import reordered, twins_among

Views = Literal["hard", "crops", "copies"]
Goal = Literal["classify", "distance"]

CROPS = Distortion(zoom=0.8, mirror=True)
HEAVY = Distortion(
    zoom=0.7, quarters=True, mirror=True, flip=True, blur=1.0, gain=0.4, offset=0.1, grey=0.2, noise=0.06
)
WEAK = Distortion(noise=0.02)
THUMBNAIL = 8  # px a side
ALIKE = 0.8  # correlation of thumbnails above which two raw images are taken for one


# ---- decisions -------------------------------------------------------------------------------------------------------


def chosen(outputs: torch.Tensor, target: torch.Tensor, threshold: float = 0.0) -> torch.Tensor:
    """Which of n others (B, n) are taken for positives: the k highest, k being the row's own count; with n = 1 those
    above the threshold."""
    if outputs.shape[1] == 1:
        return outputs > threshold
    rank = outputs.argsort(1, descending=True).argsort(1)
    return rank < target.sum(1, keepdim=True)


def accuracy(outputs: torch.Tensor, target: torch.Tensor, threshold: float = 0.0) -> float:
    """Share of the others that are rightly taken for positives or negatives; see `chosen`."""
    return (chosen(outputs, target, threshold) == (target > 0.5)).float().mean().item()


def retrieved(outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the positives that stand among the k highest outputs of their row, k being the row's own count."""
    positive = target > 0.5
    return ((chosen(outputs, target) & positive).sum() / positive.sum().clamp_min(1)).item()


def ordered(outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the pairs (positive, negative) of a row in which the positive is higher; equal ones count half."""
    positive = target > 0.5
    pairs = positive[:, :, None] & ~positive[:, None, :]
    gap = outputs[:, :, None] - outputs[:, None, :]
    won = (gap > 0).float() + (gap == 0).float() / 2
    return (torch.where(pairs, won, 0).sum() / pairs.sum().clamp_min(1)).item()


def split_at_median(likeness: torch.Tensor) -> torch.Tensor:
    """Likeness (B, 1) less its median over the batch: half of the pairs are called the same."""
    return likeness - likeness.median()


# ---- solvers without vision ------------------------------------------------------------------------------------------


def colour_likeness(anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Minus the distance of mean colours: anchor (B, 3, S, S), others (B, n, 3, S, S), to (B, n).

    To four digits: what standardising leaves of a mean is rounding, about 1e-8, and yet differs by image.
    """
    return -(others.mean((-2, -1)) - anchor.mean((-2, -1))[:, None]).norm(dim=2).round(decimals=4)


def thumbnail_likeness(anchor: torch.Tensor, others: torch.Tensor, side: int = THUMBNAIL) -> torch.Tensor:
    """Correlation of thumbnails, place by place, in [-1, 1]: (B, n)."""
    small = [F.adaptive_avg_pool2d(x, side).flatten(-3) for x in (anchor[:, None].flatten(0, 1), others.flatten(0, 1))]
    a, b = (x - x.mean(-1, keepdim=True) for x in small)
    return F.cosine_similarity(a[:, None], b.unflatten(0, others.shape[:2]), dim=2)


# ---- rows, pictures, tasks -------------------------------------------------------------------------------------------


class LikenessSettings(PretextSettings):
    """Settings of a task of views.

    `views=copies` shows each positive as a copy of the anchor, bit for bit, and `views=crops` crops and mirrors only.
    """

    views: Views = "hard"


class LikenessItems(PretextItems):
    """Rows of an anchor and n others; each is a view of an image, positives of the image of the anchor.

    A row is (images, labels, numbers of the views, noise of the views); a batch (anchor, other 1, ..., other n, labels
    (B, n) float32). Subclasses set CHAIN and RAW and say how labels are drawn.

    Attributes:
        CHAIN: distortion of every view of the hardened task, which is standardised after it. RAW: of the raw task.
        ASKED: what is asked of each of the others. ANCHOR: what the first image is.
    """

    CHAIN: ClassVar[Distortion] = HEAVY
    RAW: ClassVar[Distortion] = WEAK
    ASKED: ClassVar[str] = "same image"
    ANCHOR: ClassVar[str] = "anchor"
    threshold = 0.0  # output above which the only other is called the same

    def __init__(self, side, count, seed, split, settings):
        super().__init__(side, count, seed, split, settings)
        self.inputs = 1 + self.others()

    def others(self) -> int:
        """How many others there are."""
        return 1

    def labels(self, rng: np.random.Generator) -> np.ndarray:
        """Labels (n,) of one row, 1 for positives; by default a coin for each."""
        return rng.integers(0, 2, self.others())

    def chain(self) -> Distortion:
        """Distortion of every view under the settings."""
        s = self.settings
        if s.views == "copies":
            return Distortion()
        return CROPS if s.views == "crops" else self.CHAIN if s.hardened else self.RAW

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        labels = self.labels(rng).astype(np.float32)
        which = np.where(labels > 0, 0, np.cumsum(labels == 0))
        tiles = self.tiles(rng, int(which.max()) + 1)
        images = self.worsened(tiles, np.concatenate([[0], which]), rng)
        return images, labels, *self.chain().draw(rng, images)

    def tiles(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Crops (count, S, S, 3) uint8, each an image of its own; that of the anchor first."""
        return self.side.tiles(rng, self.settings.size, count, self.settings.data.distinct)

    def worsened(self, tiles: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Tile `which` (n + 1,) of each role, after what can only be done to one at a time; by default nothing."""
        return tiles[which]

    def batch(
        self, images: torch.Tensor, labels: torch.Tensor, numbers: torch.Tensor, grain: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Batch (anchor, others, labels): images (B, 3, S, S) float32, labels (B, n) float32."""
        if self.chain() != Distortion():
            images = distorted(images, numbers, grain)
        adjust = standardised if self.settings.hardened else normalised
        return *adjust(images).unbind(1), labels

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The anchor, and each of the others with its label; predicted: what was said of it, right or wrong."""
        *images, labels = batch
        said = None if outputs is None else chosen(outputs, labels, self.threshold)
        rows = []
        for r in range(len(labels)):
            captions, right = [self.ANCHOR], [None]
            for k, label in enumerate(labels[r] > 0.5):
                captions.append(f"{self.ASKED}: {'yes' if label else 'no'}")
                right.append(None)
                if said is not None:
                    captions[-1] += f"\nsaid {'yes' if said[r, k] else 'no'} ({outputs[r, k]:.2f})"
                    right[-1] = bool(said[r, k] == label)
            rows.append(Shown([x[r] for x in images], captions, right))
        return rows


class LikenessTask(Pretext):
    """A task of `LikenessItems`. Roles of a row are the anchor (0) and the others (1 to n)."""

    HEADS = tuple(HEADS)
    LOSSES = ("bce",)
    metric = "accuracy"
    chance = 0.5

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        return PairNet(encoder, self.head_kind)

    def titles(self) -> list[str]:
        """The anchor, then the others."""
        n = self.others()
        return [self.Items.ANCHOR, *(f"other {i + 1}" if n > 1 else "other" for i in range(n))]

    def others(self) -> int:
        """How many others a row has."""
        return self.roles.inputs - 1

    def positives(self) -> float:
        """How many positives a row has in the mean."""
        return self.others() / 2

    def best_constant(self) -> float:
        """What the loss gives if every score is the same; `mean` and `sum` as the loss has them.

        bce: entropy of the share p of positives. contrastive: p (1 - p) margin^2 / 2, at distance (1 - p) margin.
        triplet: the margin. n-pair: ln(1 + negatives). nt-xent: ln n.
        """
        n, k, rows = self.others(), self.positives(), self.settings.bs
        p, loss = k / n, LOSSES[self.loss_kind]()
        values = {  # value and how many of it a row has
            "bce": lambda: (-p * math.log(p) - (1 - p) * math.log1p(-p), n),
            "contrastive": lambda: (p * (1 - p) * loss.margin**2 / 2, n),
            "triplet": lambda: (loss.margin, k * (n - k)),
            "n-pair": lambda: (math.log(1 + n - k), k),
            "nt-xent": lambda: (math.log(n), 1),
        }
        value, count = values[self.loss_kind]()
        return value * count * rows if self.settings.loss.reduction == "sum" else value

    def easier(self) -> dict[str, Pretext]:
        """`copies`, then `crops`, under the same settings."""
        return {v: self.under(views=v) for v in ("copies", "crops")}

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Maps of the encoder, (rows, n + 1, C, h, w)."""
        return model.encode(*inputs)

    def twins(self, batch: tuple) -> torch.Tensor | None:
        """See `Task.twins`. `easier()["copies"]` has a pair for every positive."""
        *images, _ = batch
        return twins_among(images, [(0, k) for k in range(1, len(images))])

    def permuted(self, batch: tuple, order: list[int]) -> tuple:
        """The batch with other k replaced by other `order[k]`, labels alike."""
        return reordered(batch, order)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return [AccumMetric(self.measure(), flatten=False)]

    def measure(self) -> Callable[[torch.Tensor, torch.Tensor], float]:
        """The function of outputs and labels behind `metric`: by default the share of others that are called right."""
        return partial(accuracy, threshold=self.roles.threshold)

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """`metric` of scores (B, n) against labels (B, n)."""
        return self.measure()(outputs, targets[0])

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """Score of `solved` on the raw task."""
        raw = self.under(hardened=False, items=rows, bs=rows, inputs="images")
        anchor, *others, labels = raw.loaders(seed).train.one_batch()
        return self.score(self.solved(anchor, torch.stack(others, 1)), labels)

    def solved(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Scores (B, n) in closed form, on the scale of the outputs: by default the correlation of thumbnails."""
        return thumbnail_likeness(anchor, others) - ALIKE + self.roles.threshold

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`: the mean colour, and thumbnails laid over each other."""
        return {
            "mean colour": lambda batch: self.by_likeness(colour_likeness, batch),
            "thumbnail": lambda batch: self.by_likeness(thumbnail_likeness, batch),
        }

    def by_likeness(self, likeness: Callable[..., torch.Tensor], batch: tuple) -> float:
        """Score of a likeness; where there is one other, half of the rows are called the same."""
        anchor, *others, labels = batch
        found = likeness(anchor, torch.stack(others, 1))
        if len(others) == 1:
            found = split_at_median(found) + self.roles.threshold
        return self.score(found, labels)


class GoalSettings(LikenessSettings):
    """`goal=classify` gives a logit; `goal=distance` gives a distance of embeddings, for the contrastive loss."""

    goal: Goal = "classify"


class GoalItems(LikenessItems):
    """Pairs that are classified or measured."""

    @property
    def threshold(self) -> float:
        """Logit 0, or half the margin in between what the contrastive loss wants of both."""
        return 0.0 if self.settings.goal == "classify" else -LOSSES["contrastive"]().margin / 2


class GoalTask(LikenessTask):
    """Pairs, under either goal."""

    def heads(self) -> tuple[str, ...]:
        """See `Pretext.heads`."""
        return self.HEADS if self.settings.goal == "classify" else ("embed-l2",)

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("bce",) if self.settings.goal == "classify" else ("contrastive",)


class RetrievalSettings(LikenessSettings):
    """An anchor and n others."""

    n: int = Field(4, ge=2, le=16)


class RetrievalItems(LikenessItems):
    """An anchor and n others, `positives` of them (one, if the settings have no such number) in random places."""

    def others(self) -> int:
        """n of the settings."""
        return self.settings.n

    def positives(self) -> int:
        """How many are positive in every row."""
        return getattr(self.settings, "positives", 1)

    def labels(self, rng: np.random.Generator) -> np.ndarray:
        """Labels (n,) with as many 1 in random places."""
        return rng.permutation(np.arange(self.others()) < self.positives())


class RetrievalTask(LikenessTask):
    """Finding the positives among n others."""

    Items: ClassVar[type[PretextItems]] = RetrievalItems
    SHORTCUTS = "equal pixels and equal mean colours; every view is transformed and standardised by itself"
    metric = "retrieved"

    def __init__(self, settings=None):
        super().__init__(settings)
        self.chance = self.positives() / self.others()

    def positives(self) -> float:
        """How many every row has."""
        return self.roles.positives()

    def measure(self) -> Callable[[torch.Tensor, torch.Tensor], float]:
        """Share of the positives among the highest."""
        return retrieved
