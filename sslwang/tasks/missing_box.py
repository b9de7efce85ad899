"""Patchwork with a missing box: what did it show, or which image lost it?

What it is: a patchwork of n images (default 2) of g x g boxes (default 2 x 2) in random order, in which one cell is
grey.

Labels: `target=image` asks which image lost a box. For n = 2 it is one logit: 1 if it is the image that the first
visible box belongs to (the upper left one, unless that is missing), 0 if the other; binary cross-entropy. For more
images it is their number in order of appearance (softmax, cross-entropy). `target=pixels` asks for the missing box
itself (mean absolute error, or squared), `target=position` for the index of every visible box as in patchwork; the
missing one is asked for nothing.

Best constant: the first visible box is from the complete image in 4 of 7 rows, so for n = 2 a constant is right in
0.571 (loss 0.683). Of the pixels it has no closed form (standardised boxes have a squared error just
below 1); R2 is 0. For `position` a constant gets 0.154 of the visible cells right.

Shortcuts: counting the boxes of each mean colour tells which image lost one, and the mean colour of what is visible
tells something of the pixels that are missing. So by default each box is standardised by itself, channel by channel,
and cut with margins at random offsets. The missing cell is grey like the gaps between the boxes and says nothing; so
is a box of one flat colour, 1 in 500.

Oracle: each visible box is looked up, pixel by pixel, in the images; the one found least often lost a box. Of the
pixels: the box that no visible one is.

Baselines of the pixels, as peak signal-to-noise ratio (dB): the mean colour of what is visible of the same image, a
copy of the nearest box, and an interpolation between the edges of the boxes around.

Easier versions: `mode=marked`: the missing cell shows the colour of its image, in order of appearance; of `position`
the middle of each visible box is painted with the colours of its image and its place; of `pixels` the missing box is
all of one colour, drawn at random, and the cell shows it.

Source: context encoders (Pathak et al. 2016) over jigsaw puzzles (Noroozi and Favaro 2016), as in the notes that this
pipeline was started from. After 5,000 steps a small encoder is at chance (0.57, see reports/hard-tasks.md): it must
overfit a fixed batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import model_validator
from torch import nn

from sslwang.box_filling import from_borders, mean_colour, nearest_box, psnr
from sslwang.box_solvers import fewer_by_colour
from sslwang.data.boxes import CORNERS, MARK, Cutter, marked, palette
from sslwang.data.pictures import Shown
from sslwang.losses import IGNORED, LOSSES
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import RANGE, ClassTask, accuracy
from sslwang.tasks.patchwork import BoxesSettings, PatchworkItems, canonical, image_shares


class MissingBoxSettings(BoxesSettings):
    """Settings of `missing-box`."""

    target: Literal["image", "pixels", "position"] = "image"

    @model_validator(mode="after")
    def _two(self):
        if self.n < 2 and self.target == "image":
            raise ValueError("n=1: it is always the same image that lost a box; use n >= 2")
        return self


class MissingBoxItems(PatchworkItems):
    """Rows of a patchwork and which cell is missing. A batch is (picture (B, 3, H, W), target)."""

    settings: MissingBoxSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """As of `BoxesItems`, then the missing cell and a colour."""
        s = self.settings
        return *super().row(rng), rng.integers(s.n * s.g**2), rng.integers(CORNERS)

    def batch(
        self,
        images: torch.Tensor,
        order: torch.Tensor,
        jitter: torch.Tensor,
        missing: torch.Tensor,
        colour: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """See the class."""
        s = self.settings
        gone = torch.arange(order.shape[1], device=order.device) == missing[:, None]
        labels = canonical(order, s.g**2, ~gone)
        paint = s.mode == "marked" and s.target == "position"
        boxes = self.boxes(images, order, jitter, labels if paint else None)
        rows = torch.arange(len(order), device=order.device)
        if s.target == "pixels" and s.mode == "marked":
            flat = palette(CORNERS, order.device)[colour] / 2
            pixels = flat[..., None, None].expand_as(boxes[:, 0]).contiguous()
            boxes = torch.where(gone[..., None, None, None], pixels[:, None], boxes)
        else:
            pixels = boxes[rows, missing]
            there = torch.zeros_like(boxes)
            if s.mode == "marked" and s.target == "image":
                there = marked(there, labels.clamp_min(0) // s.g**2, s.places)
            boxes = torch.where(gone[..., None, None, None], there, boxes)
        picture = self.cutter.laid_out(boxes, *s.layout)
        if s.target == "pixels":
            return picture, pixels
        if s.target == "position":
            return picture, torch.where(gone, IGNORED, labels)
        lost = labels[rows, missing] // s.g**2
        return picture, (lost == 0).float() if s.n == 2 else lost

    def words(self) -> Sequence[str]:
        """Names of the classes."""
        s = self.settings
        if s.target != "image":
            return super().words()
        if s.n == 2:
            return "missing from: the second", "missing from: the image of the first box"
        return [f"missing from: image {j + 1} to appear" for j in range(s.n)]

    def caption(self, target: torch.Tensor) -> str:
        """See `ClassItems.caption`."""
        if self.settings.target == "position":
            return super().caption(target)
        return self.words()[int(target)]

    def explained(self, picture: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        """See `ClassItems.explained`."""
        return super().explained(picture, target) if self.settings.target == "position" else None

    def shown(self, batch: tuple, outputs: torch.Tensor | None = None) -> list[Shown]:
        """Of pixels: the picture, the missing box, and what was said to be it, right if it explains half."""
        if self.settings.target != "pixels":
            return super().shown(batch, outputs)
        rows = []
        for r, (picture, box) in enumerate(zip(*batch)):
            shown = Shown([picture.clamp(-RANGE, RANGE), box], ["one box is missing", "it is this"], [None, None])
            if outputs is not None:
                share = explained(outputs[r][None], box[None])
                shown.images.append(outputs[r])
                shown.captions.append(f"said, R2 {share:.2f}, {psnr(outputs[r], box):.1f} dB")
                shown.right.append(share > 0.5)
            rows.append(shown)
        return rows


def explained(pixels: torch.Tensor, target: torch.Tensor) -> float:
    """R2 of pixels (B, 3, h, w): 1 - squared error over the square about the mean colour of the batch's boxes."""
    spread = target - target.mean((0, 2, 3), keepdim=True)
    return (1 - (pixels - target).square().sum() / spread.square().sum().clamp_min(1e-9)).item()


def absolute_error(pixels: torch.Tensor, target: torch.Tensor) -> float:
    """Mean absolute error."""
    return (pixels - target).abs().mean().item()


class MissingBox(ClassTask):
    """Patchwork with a missing box under given settings."""

    Settings: ClassVar[type[PretextSettings]] = MissingBoxSettings
    Items: ClassVar[type[PretextItems]] = MissingBoxItems
    SHORTCUTS = (
        "the boxes of each mean colour can be counted, and the mean colour of the rest tells of the missing pixels; "
        "each box is standardised by itself and cut with margins"
    )
    GENERALISES = False
    settings: MissingBoxSettings

    def __init__(self, settings: MissingBoxSettings | None = None):
        super().__init__(settings)
        self.metric = {"image": "accuracy", "pixels": "R2", "position": "cells right"}[self.settings.target]

    def heads(self) -> tuple[str, ...]:
        """See `Pretext.heads`."""
        return ("decoder",) if self.settings.target == "pixels" else ("cells", "pooled", "fastai")

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        s = self.settings
        if s.target == "pixels":
            return "l1", "mse"
        return ("bce",) if s.target == "image" and s.n == 2 else ("ce",)

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return self.settings.layout

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        s = self.settings
        cells = s.places * s.g**2
        if s.target == "pixels":
            side = Cutter(s.size, s.g, s.hardened).side
            return 3, side, side
        return (cells, cells) if s.target == "position" else () if s.n == 2 else (s.n,)

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`. The visible boxes in their order are a shuffled row whose last box is not seen."""
        s = self.settings
        images = image_shares(s.n, s.g**2)
        total = len(images)
        if s.target == "pixels":
            return [[0.0, 0.0]]  # no classes
        if s.target == "image":
            lost = images[-1]
            return [[lost[1], lost[0]]] if s.n == 2 else [lost.tolist()]
        k = np.arange(total)[:, None]
        shares = ((total - 1 - k) * images + k * np.roll(images, 1, axis=0)) / (total - 1)
        return np.repeat(shares / s.g**2, s.g**2, axis=1).tolist()

    def loss(self) -> nn.Module:
        """See `Pretext.loss`."""
        s = self.settings
        return LOSSES[self.loss_kind](s.loss.reduction, activation="none") if s.target == "pixels" else super().loss()

    def best_constant(self) -> float | None:
        """As of `ClassTask`, with the visible cells for count; of pixels as in the module's docstring."""
        s = self.settings
        summed = s.loss.reduction == "sum"
        if s.target == "pixels":
            if s.mode == "marked":
                value = MARK / 2 if self.loss_kind == "l1" else (MARK / 2) ** 2
            else:
                return None
            return value * s.bs * math.prod(self.shape()) if summed else value
        value = super().best_constant()
        seen = s.n * s.g**2 - 1
        return value * seen / (seen + 1) if summed and s.target == "position" else value

    def metrics(self) -> list:
        """R2, mean absolute error and PSNR, or as of `ClassTask`."""
        if self.settings.target != "pixels":
            return super().metrics()
        return [AccumMetric(f, flatten=False) for f in (explained, absolute_error, psnr)]

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Share that is right, or R2 with values below 0 counted as 0."""
        return (
            max(0.0, explained(outputs, *targets)) if self.settings.target == "pixels" else accuracy(outputs, *targets)
        )

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        s = self.settings
        items = self.raw(rows, seed, mode="plain")
        images, *drawn = items.first(rows)
        picture, target = items.batch(images, *drawn)
        cells = items.cutter.taken_up(picture, *s.layout)
        every = torch.arange(s.n * s.g**2).expand(rows, -1)
        parts = items.cutter.cut(images, every // s.g**2, every % s.g**2, torch.zeros(rows, 1, 2).long())
        parts = items.cutter.finished(parts)
        gap = torch.cdist(cells.flatten(2), parts.flatten(2))  # (B, cells, boxes)
        grey = _grey(cells)
        found = gap.masked_fill(grey[..., None], torch.inf).amin(1).argmax(1)  # the box that lies nowhere
        if s.target == "pixels":
            return max(0.0, explained(parts[torch.arange(rows), found], target))
        boxes = torch.where(grey, found[:, None], gap.argmin(2))
        labels = canonical(boxes, s.g**2, ~grey)
        if s.target == "position":
            return accuracy(nn.functional.one_hot(labels.clamp_min(0), self.shape()[1]).float(), target)
        lost = labels.gather(1, grey.float().argmax(1, keepdim=True))[:, 0] // s.g**2
        answer = nn.functional.one_hot(lost, s.n).float()
        return accuracy(answer[:, 0] - 0.5 if s.n == 2 else answer, target)

    def baselines(self, rows: int = 256, seed: int = 0) -> dict[str, float]:
        """See `Pretext.baselines`: of pixels, the PSNR of each way of filling the box in without learning."""
        s = self.settings
        if s.target != "pixels":
            return {}
        items = self.under(inputs="images", valid_items=rows).items(seed, "valid")
        images, *drawn = items.first(rows)
        picture, target = items.batch(images, *drawn)
        cells = items.cutter.taken_up(picture, *s.layout)
        order, missing = drawn[0], drawn[2]
        visible = (order >= 0) & (torch.arange(order.shape[1]) != missing[:, None])
        image = order // s.g**2
        same = visible & (image == image.gather(1, missing[:, None]))
        answers = {
            "mean colour": mean_colour(cells, same),
            "nearest box": nearest_box(cells, visible, missing, s.layout),
            "from the borders": from_borders(cells, visible, missing, s.layout),
        }
        return {f"{name}, PSNR in dB": psnr(answer, target) for name, answer in answers.items()}

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`. Only for two images of 2 x 2 boxes all ways to part the boxes are tried."""
        s = self.settings
        if (s.n, s.g, s.places) != (2, 2, 2) or s.target == "position" or s.mode == "marked":
            return {}
        cutter = Cutter(s.size, s.g, s.hardened)

        def colour(batch: tuple) -> float:
            cells = cutter.taken_up(batch[0], *s.layout)
            visible = cells[~_grey(cells)].unflatten(0, (len(cells), -1))
            few = fewer_by_colour(visible)  # (B, 7): whether it is one of the three
            if s.target == "image":
                return self.score(few[:, 0].float() - 0.5, batch[1])
            mean = (visible.mean((-2, -1)) * few[..., None]).sum(1) / few.sum(1, keepdim=True)
            return self.score(mean[..., None, None].expand_as(batch[1]), batch[1])

        return {"mean colour": colour}


def _grey(cells: torch.Tensor) -> torch.Tensor:
    """Which of the cells (B, N, 3, h, w) is the missing one: the first that shows nothing."""
    empty = (cells == 0).flatten(2).all(2)
    return empty & (empty.cumsum(1) == 1)
