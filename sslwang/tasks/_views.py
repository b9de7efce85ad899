"""What the field's baselines share, which see two augmented views of each image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from torch import nn
from torch.nn import functional as F

from sslwang.data.pictures import Shown
from sslwang.data.pixels import normalised, standardised
from sslwang.data.views import Distortion, distorted
from sslwang.models.views import ViewNet
from sslwang.pretext import Pretext, PretextItems, PretextSettings
from sslwang.roles import twins_among

CROPS = Distortion(zoom=0.6, mirror=True)
STRONG = Distortion(zoom=0.6, mirror=True, blur=1.0, gain=0.5, offset=0.1, grey=0.2)


class ViewSettings(PretextSettings):
    """Settings of a task of two views. `views=copies` shows one view twice, `views=crops` crops and mirrors only."""

    views: Literal["strong", "crops", "copies"] = "strong"


class ViewItems(PretextItems):
    """Two views of an image. A row is (image, name, numbers, noise); a batch (view, view, name).

    The name is an integer that no other row has. No loss looks at it; it stands where fastai expects a target.
    """

    inputs = 2

    def chain(self) -> Distortion:
        """Distortion of each view under the settings."""
        if self.settings.views == "copies":
            return Distortion()
        return STRONG if self.settings.views == "strong" and self.settings.hardened else CROPS

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        tile = self.side.tiles(rng, s.size, 1)
        images = np.concatenate([tile, tile])
        return images, rng.integers(2**62), *self.chain().draw(rng, images)

    def batch(
        self, images: torch.Tensor, name: torch.Tensor, numbers: torch.Tensor, grain: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Batch (view, view, name): views (B, 3, S, S) float32, names (B,) int64."""
        if self.chain() != Distortion():
            images = distorted(images, numbers, grain)
        return *(standardised if self.settings.hardened else normalised)(images).unbind(1), name

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """Both views; predicted: the view of another row that the first view is taken for, where it is not its own."""
        one, other, _ = batch
        rows = [
            Shown([a, b], [f"image {r}: a view", f"image {r}: another"], [None] * 2)
            for r, (a, b) in enumerate(zip(one, other))
        ]
        if outputs is None:
            return rows
        nearest = likeness(outputs[:, 0], outputs[:, 1]).argmax(1).tolist()
        return [
            Shown([*row.images, other[n]], [*row.captions, f"found: image {n}"], [None, None, n == r])
            for r, (row, n) in enumerate(zip(rows, nearest))
        ]


def likeness(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cosines of vectors (B, D) with vectors (B, D): (B, B)."""
    return F.normalize(one.float(), dim=1) @ F.normalize(other.float(), dim=1).T


def ranked(outputs: torch.Tensor, target: torch.Tensor | None = None) -> float:
    """Share of the other images whose view is less like a view than its own other one is; equal ones count half.

    Outputs are (B, 2, D). 1 if every view is nearest to its partner, 0.5 for a constant and by chance, whatever B.
    """
    found = likeness(outputs[:, 0], outputs[:, 1])
    return sum(ranked_by(m) for m in (found, found.T)) / 2


def ranked_by(found: torch.Tensor) -> float:
    """As `ranked`, from the likeness (B, B) of the first views and the second."""
    gap = found.diagonal()[:, None] - found
    won = (gap > 0).float() + (gap == 0).float() / 2
    return ((won.sum(1) - 0.5) / max(len(found) - 1, 1)).mean().item()


class ViewTask(Pretext):
    """Two views of each image, under a loss over the whole batch."""

    Settings: ClassVar[type[PretextSettings]] = ViewSettings
    Items: ClassVar[type[PretextItems]] = ViewItems
    SHORTCUTS = "crops of one image have its colours; views are recoloured and standardised by themselves"
    metric = "ranked"
    chance = 0.5

    def network(self, encoder: nn.Module) -> nn.Module:
        """See `Pretext.network`."""
        return ViewNet(encoder, self.head_kind)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return [AccumMetric(ranked, flatten=False)]

    def titles(self) -> list[str]:
        """Two views."""
        return ["view", "other view"]

    def easier(self) -> dict[str, Pretext]:
        """`copies`, then `crops`, under the same settings."""
        return {v: self.under(views=v) for v in ("copies", "crops")}

    def features(self, model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Maps of the encoder, (rows, 2, C, h, w)."""
        return model.encode(*inputs)

    def twins(self, batch: tuple) -> torch.Tensor | None:
        """See `Task.twins`. In `easier()["copies"]` every row is a pair."""
        return twins_among(batch[:2], [(0, 1)])

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """See `ranked`."""
        return ranked(outputs)

    def oracle(self, rows: int = 256, seed: int = 0) -> float | None:
        """Likeness of the colours of raw views: their histograms, 4 steps a channel."""
        raw = self.under(hardened=False, items=rows, bs=rows, inputs="images")
        one, other, _ = raw.loaders(seed).train.one_batch()
        return ranked_by(-torch.cdist(histogram(one), histogram(other), p=1))

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        return {"mean colour": lambda b: ranked_by(-_colours_apart(b[0], b[1]))}


def _colours_apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one.mean((2, 3)), other.mean((2, 3))).round(decimals=4)


def histogram(images: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Shares (B, steps^3) of the pixels of images (B, 3, H, W), of mean 0 and deviation 1, in cells of colour."""
    level = ((images + 1.5) * steps / 3).floor().clamp(0, steps - 1).long()
    cell = (level[:, 0] * steps + level[:, 1]) * steps + level[:, 2]
    return F.one_hot(cell.flatten(1), steps**3).float().mean(1)
