"""Unmix: which of the sources were mixed, and in what ratio.

What it is: a row is one mixture and n sources (default 3). Two sources in random places were mixed with weights p and
1 - p, p ~ Beta(5, 8); the others have weight 0. The network sees the mixture and all sources.

By default (`sources=batch`) the sources of a row are images of the same batch, its own and those of other rows: each
image is decoded, sent and encoded once, and a step costs 2 encodings a row instead of n + 1. Its epoch and its index
decide what a row is; a batch of rows that were not drawn together fetches the images that it lacks. `sources=row` draws
n images of its own for each row.

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

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from sslwang.data.gathered import gathered, pool_and_index
from sslwang.data.loaders import SPLITS, Items
from sslwang.data.mixing import Rows, draw_moves, draw_rows, draw_weights, mixtures, windows
from sslwang.data.pictures import Shown
from sslwang.data.pixels import MEAN, STD, normalised, standardised
from sslwang.data.splits import Side
from sslwang.data.unmixing import Target, UnmixTransform, rows_shown
from sslwang.losses import LOSSES
from sslwang.models.encoder import Encoder
from sslwang.models.pairs import HEADS, GatheredPairNet
from sslwang.optimizers import OPTIMIZERS
from sslwang.pretext import DataSettings, Pretext, PretextItems, PretextSettings, pretext_learner
from sslwang.roles import reordered, twins_among
from sslwang.solvers import least_squares, mean_colour_pair

Mode = Literal["unmix", "dup_src", "dup_mix", "scale"]


class UnmixDataSettings(DataSettings):
    """`shift` is how far a source may move against the mixture, in px at `size`."""

    shift: int = Field(4, ge=0, le=64)


class UnmixSettings(PretextSettings):
    """Settings of `unmix`: w = (p, 1 - p), p ~ Beta(alpha, beta), for two of n sources.

    `sources` says where the sources of a row come from: other rows of the same batch, or drawn for this row alone.
    """

    sources: Literal["batch", "row"] = "batch"
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


@functools.lru_cache(maxsize=4)
def _order(seed: int, split: str, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    "Items in the order in which a loader shows them in an epoch, and the place of each in it."
    order = np.array(Items(count, seed, split).order(epoch) if split == "train" else range(count), dtype=np.int64)
    places = np.empty(count, dtype=np.int64)
    places[order] = np.arange(count)
    return order, places


@dataclass(frozen=True)
class Block:
    """The rows that a loader shows together.

    Args:
        items: index of each. The last ones of the last block of an epoch may be images alone, with an index from
            `count` on, so that every block has n images.
        kinds: which image each shows part of.
        moves: how each is shown; see `UnmixItems`.
        rows: what was drawn for them; its `index` counts within the block.
    """

    items: np.ndarray
    kinds: np.ndarray
    moves: np.ndarray
    rows: Rows


@functools.lru_cache(maxsize=8)
def _block(
    seed: int,
    split: str,
    epoch: int,
    number: int,
    count: int,
    size: int,
    images: int,
    distinct: bool,
    reach: int,
    n: int,
    alpha: float,
    beta: float,
    unused: bool,
) -> Block:
    "Block `number` of an epoch of `count` items in blocks of `size`, over `images` images."
    start = number * size
    places = np.arange(start, min(max(count, start + n), start + size))
    order, _ = _order(seed, split, epoch, count)
    rng = np.random.default_rng([seed, SPLITS[split], epoch, number, 0, 0])
    if distinct:  # each image equally often, so that there are others for every row
        turns = range(0, len(places), images)
        kinds = np.concatenate([rng.choice(images, min(images, len(places) - k), replace=False) for k in turns])
    else:
        kinds = rng.integers(images, size=len(places))
    moves = draw_moves(rng, len(places), reach)
    drawn = draw_rows(rng, len(places), n, alpha, beta, unused, kinds.tolist() if distinct else None)
    return Block(np.concatenate([order[places[places < count]], places[places >= count]]), kinds, moves, drawn)


class UnmixItems(PretextItems):
    """Rows of unmix: a mixture and n sources in, labels or weights out.

    A batch is (mixture, source 1, ..., source n, target). An image is a tile, (T, T, 3) uint8 with T = S if not
    hardened, else S + 2 shift: the middle of it is mixed, and the window that is shown is moved by (y, x, down, across)
    px and turned upside down or left to right where the last two are 1. Weights are (n,), a slot is the source that a
    duplicate involves. A row of images of its own is (images (n, T, T, 3), moves (n, 4), weights, slot); one of images
    of the batch is (image, moves (4,), weights, slot, items (n,) whose images its sources are, (epoch, own item)).
    """

    settings: UnmixSettings

    def __init__(self, side: Side, count: int, seed: int, split: str, settings: UnmixSettings):
        super().__init__(side, count, seed, split, settings)
        s = settings
        self.inputs = 1 + s.n
        self.shift = s.data.shift if s.hardened else 0
        self.shared = s.sources == "batch" and s.mode != "scale"  # under scale a row is about one image
        self.drawing = (s.data.distinct, 2 * self.shift, s.n, s.alpha, s.beta, s.mode == "dup_mix")

    def order(self, epoch: int) -> list[int]:
        """See `Items.order`. Rows that are frozen and share images stay together as well."""
        return super().order(0 if self.shared and self.settings.rows == "frozen" else epoch)

    # ---- one row -------------------------------------------------------------------------------------------------

    def item(self, epoch: int, index: int) -> tuple:
        """See `Items.item`."""
        if not self.shared:
            return super().item(epoch, index)
        if not 0 <= index < self.count:
            raise IndexError(f"item {index} of {self.count}")
        epoch = 0 if self.settings.rows == "frozen" else epoch
        block, row = self._found(epoch, index)
        drawn, names = block.rows, np.array([epoch, index])
        noise = (self._stream(epoch, index, 1).integers(2**63),) if self.settings.inputs == "noise" else ()
        labels = drawn.weights[row], drawn.slots[row], block.items[drawn.index[row]], names
        return *self._image(epoch, index, (block, row)), *labels, *noise

    def _stream(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS[self.split], *place])

    def _found(self, epoch: int, index: int) -> tuple[Block, int]:
        "Block of an item and its row there."
        key, size = (self.seed, self.split, epoch), max(self.settings.bs, self.settings.n)
        place = int(_order(*key, self.count)[1][index]) if index < self.count else index
        number, row = divmod(place, size)
        return _block(*key, number, self.count, size, len(self.side.images), *self.drawing), row

    def _image(self, epoch: int, index: int, found: tuple[Block, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        "Image of an item, or of one that is an image alone, and its moves."
        block, row = found or self._found(epoch, index)
        size = self.settings.size + 2 * self.shift
        return self.side.tile(self._stream(epoch, index), size, int(block.kinds[row])), block.moves[row]

    def row(self, rng: np.random.Generator) -> tuple:
        """A row of images of its own; see the class."""
        s = self.settings
        weights, slot = draw_weights(rng, s.n, s.alpha, s.beta, s.mode == "dup_mix")
        scale = s.mode == "scale"
        size = s.size if scale else s.size + 2 * self.shift
        tiles = self.side.tiles(rng, size, 1 if scale else s.n, s.data.distinct)
        return tiles, draw_moves(rng, len(tiles), 0 if scale else 2 * self.shift), weights, slot

    # ---- a batch -------------------------------------------------------------------------------------------------

    def stack(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """Images (M, 3, T, T) uint8, moves (M, 4), weights (B, n), slots (B,), and which images each row's sources
        are (B, n).

        Images of rows that were not drawn together with these are fetched: M >= B.
        """
        images, moves, weights, slots, *rest = zip(*items)
        if self.shared:
            sources, names, *noise = rest
            own = np.stack(names).tolist()
            at = {(epoch, item): k for k, (epoch, item) in enumerate(own)}
            images, moves, index = list(images), list(moves), []
            for (epoch, _), row in zip(own, np.stack(sources).tolist()):
                for item in row:
                    if (epoch, item) not in at:
                        at[epoch, item] = len(images)
                        image, move = self._image(epoch, item)
                        images.append(image)
                        moves.append(move)
                index.append([at[epoch, item] for item in row])
            index = np.array(index)
        else:
            noise = rest
            images, moves = np.concatenate(images), np.concatenate(moves)
            index = np.arange(len(images)).reshape(len(items), -1)
        tiles = np.empty((len(images), 3, *images[0].shape[:2]), dtype=np.uint8)
        for k, image in enumerate(images):  # plane by plane at once: they may be mirrored views, which are slow to copy
            tiles[k] = image.transpose(2, 0, 1)
        labels = (np.stack(moves), np.stack(weights), np.stack(slots), index, *map(np.stack, noise))
        return tuple(map(torch.from_numpy, (tiles, *labels)))

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 as they are: what is moved and gathered is a quarter as large."""
        return images.contiguous()

    def batch(
        self,
        images: torch.Tensor,
        moves: torch.Tensor,
        weights: torch.Tensor,
        slots: torch.Tensor,
        index: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Batch (mixture, sources 1 to n, target): images (B, 3, S, S) float32, target (B, n) float32."""
        s = self.settings
        if s.mode == "scale":
            mixture = images.float().div_(255)
            sources = [normalised(w[:, None, None, None] * mixture) for w in weights.unbind(1)]
            mixture = normalised(mixture)
        else:
            pool = self._adjusted((windows(images, moves, s.size) if s.hardened else images).float())
            rows = torch.arange(len(index), device=index.device)
            if s.mode == "dup_src":
                mixture = pool[index[rows, slots]]
            else:
                inner = slice(self.shift, self.shift + s.size)
                mixture = self._adjusted(mixtures(images[..., inner, inner], index, weights))
            if s.mode == "dup_mix":
                index = index.index_put((rows, slots), len(pool) + rows)
                pool = torch.cat([pool, mixture])
            sources = gathered(pool, index)
        if s.mode in ("dup_src", "dup_mix"):
            weights = nn.functional.one_hot(slots, s.n).float()
        target = weights if s.target == "regression" else (weights > 0).float()
        return mixture, *sources, target

    def _adjusted(self, images: torch.Tensor) -> torch.Tensor:
        "Images in [0, 255] as the network sees them, which may overwrite them."
        return standardised(images, images, white=255.0) if self.settings.hardened else normalised(images.div_(255))

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """The mixture, and each source with its label or weight; predicted: probability or weight, right or wrong."""
        *images, target = batch
        regression = self.settings.target == "regression"
        values = None if outputs is None else (outputs.softmax(1) if regression else outputs.sigmoid())
        return rows_shown(images, target, values, regression)


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


class UnmixNet(GatheredPairNet):
    """A `PairNet` that encodes each image once where the sources are `Gathered` from the images of the batch.

    Sources that share nothing are encoded one by one, with the same outputs but for rounding. (Under batch norm in
    training mode the statistics are those of the images that were encoded, so there the two differ a little.)
    """

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """The mixture and n sources, (B, 3, H, W) each, or one tuple of them, to logits (B, n)."""
        mixture, *sources = images[0] if len(images) == 1 else images
        return super().forward(mixture, *pool_and_index(sources))

    def maps(self, mixture: torch.Tensor, *sources: torch.Tensor) -> torch.Tensor:
        """The encoder's maps of all images of each row, (B, n + 1, C, h, w)."""
        pool, index = pool_and_index(sources)
        maps = self.encode(mixture, pool)
        return torch.cat([maps[: len(mixture), None], maps[len(mixture) :][index]], dim=1)


def unmix_learner(
    dls: DataLoaders,
    target: Target | None = None,
    head: str = "spatial",
    norm: str = "group",
    loss_func: nn.Module | None = None,
    opt_func: Callable[..., Optimizer] = OPTIMIZERS["sgd"],
    lr: float = 0.1,
    wd: float = 0.01,
) -> Learner:
    """Learner for batches (mixture, sources 1 to n, target) or (tuple of mixture and sources, target).

    Its weights are drawn from torch's current stream.

    Args:
        dls: loaders of `UnmixItems`, of images through `UnmixTransform`, or anything with such batches.
        target: decides loss and metrics; by default what the loaders' `UnmixTransform` gives, else classification.
        head: `spatial` or another of `sslwang tasks --heads`.
        norm: `group` or `batch`.
        loss_func: of logits (B, n) and target (B, n), instead of the target's own.
        opt_func, lr, wd: as in fastai's Learner.
    """
    if target is None:
        transforms = getattr(getattr(dls, "after_batch", None), "fs", ())
        target = next((t.target for t in transforms if isinstance(t, UnmixTransform)), "classification")
    if loss_func is None:
        loss_func = LOSSES["bce" if target == "classification" else "soft-ce"]()
    return pretext_learner(dls, UnmixNet(Encoder(norm), head), loss_func, unmix_metrics(target), opt_func, lr, wd)


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
        return UnmixNet(encoder, self.head_kind)

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
        return model.maps(*inputs)

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
        images = batch[:-1]
        return twins_among(images, itertools.combinations(range(len(images)), 2))

    def permuted(self, batch: tuple, order: list[int]) -> tuple:
        """The batch with source k replaced by source `order[k]`, targets alike."""
        return reordered(batch, order)

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Exact pair, or R2 with values below 0 counted as 0."""
        if self.settings.target == "classification":
            return exact_pair(outputs, targets[0])
        return max(0.0, r2(outputs, targets[0]))
