"""Patchwork: images cut into boxes and shuffled; where does every box belong?

What it is: n images (default 2) are cut into g x g boxes each (default 2 x 2). All n g^2 boxes are laid out in one grid
in random order. `room` makes the grid and the head large enough for more images than there are; what is left of the
grid stays grey and is asked for nothing.

Labels: `target=position` asks for the index of every box among all boxes: image 1 from left to right and from top to
bottom, then image 2, and so on. Which image is the first is settled by the grid itself: the one that the upper left box
belongs to; the second is the next that appears in raster order. So [a4 b2 b4 a3 / a1 a2 b1 b3] is 4 6 8 3 1 2 5 7,
counted from 1 (in tensors from 0). `target=image` asks only for the image of each box. One softmax a cell,
cross-entropy.

Best constant: the order by appearance makes classes uneven. For n = 2, g = 2 a constant gets 0.156 of the cells right
(1/4 of the first cell, 1/7 of the others), and 0.625 of the images.

Shortcuts: mean colours say which boxes belong together, and edges that continue say which stand side by side. So by
default boxes are cut with margins at random offsets, are of no multiple of 8 px, and each is standardised by itself,
channel by channel.

Oracle: each box is looked up, pixel by pixel, in the images it may come from.

Easier versions: `mode=marked`: the middle of each box is painted with the colours of its image, in order of appearance,
and its place.

Source: jigsaw puzzles (Noroozi and Favaro 2016) of several images at once, as in the notes that this pipeline was
started from; margins and jitter from Doersch et al. 2015. After 5,000 steps a small encoder has 0.22 of the cells
of unseen regions right and 0.19 of unseen photographs (chance 0.156, see reports/hard-tasks.md); it parts the images,
in 0.95, and not the places. It must overfit a fixed batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from fastai.metrics import AccumMetric
from pydantic import Field, model_validator

from sslwang.box_solvers import two_by_colour, two_by_edges
from sslwang.data.boxes import Cutter, marked
from sslwang.losses import IGNORED
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, exact

MOST_NAMES = 16  # boxes that a caption can name


class BoxesSettings(PretextSettings):
    """Settings of tasks that shuffle the boxes of several images. `room=0` is room for n images."""

    n: int = Field(2, ge=1, le=16)
    g: int = Field(2, ge=2, le=16)
    room: int = Field(0, ge=0, le=16)
    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        if 0 < self.room < self.n:
            raise ValueError(f"room={self.room} is too small for n={self.n} images")
        Cutter(self.size, self.g)
        return self

    @property
    def places(self) -> int:
        """Images that there is room for."""
        return self.room or self.n

    @property
    def layout(self) -> tuple[int, int]:
        """Rows and columns of the grid: images of g x g in as square a block as their number allows, lying down."""
        down = max(r for r in range(1, math.isqrt(self.places) + 1) if self.places % r == 0)
        return self.g * down, self.g * (self.places // down)


class PatchworkSettings(BoxesSettings):
    """Settings of `patchwork`."""

    target: Literal["position", "image"] = "position"


def canonical(boxes: torch.Tensor, per_image: int, seen: torch.Tensor | None = None) -> torch.Tensor:
    """Labels of boxes (B, N) = image * per_image + place, with the images counted in the order in which they appear.

    Args:
        boxes: -1 where there is none; their labels are -100.
        per_image: boxes an image.
        seen: (B, N), which boxes count as appearing; all if not given.
    """
    there = boxes >= 0
    cells = boxes.shape[1]
    image = (boxes.clamp_min(0) // per_image)[..., None]
    appears = there if seen is None else there & seen
    numbers = torch.arange(cells, device=boxes.device)
    first = torch.where((image == numbers) & appears[..., None], numbers[:, None], cells).amin(1)  # of each image
    rank = first.argsort(dim=1, stable=True).argsort(dim=1)
    labels = rank.gather(1, image[..., 0]) * per_image + boxes % per_image
    return torch.where(there, labels, IGNORED)


def image_shares(n: int, per_image: int) -> np.ndarray:
    """Probability (n * per_image, n) that cell k shows the j-th image to appear, all orders being equally likely.

    Cell k shows a new image, or the image of an earlier cell i, whose other boxes are spread evenly over the cells
    after i.
    """
    total = n * per_image
    seen = np.zeros((total + 1, n + 1))  # seen[i, j]: j images have appeared before cell i
    seen[0, 0] = 1
    new = np.zeros((total, n))
    for i in range(total):
        for j in range(min(i, n) + 1):
            chance = (n - j) * per_image / (total - i) if j < n else 0.0
            chance = min(1.0, chance)
            if j < n:
                new[i, j] = seen[i, j] * chance
                seen[i + 1, j + 1] += seen[i, j] * chance
            seen[i + 1, j] += seen[i, j] * (1 - chance)
    shares = new.copy()
    for k in range(total):
        for i in range(k):
            shares[k] += new[i] * (per_image - 1) / (total - i - 1)
    return shares


class BoxesItems(PretextItems):
    """Rows of n images cut into boxes: (images (n, S, S, 3), order (N,), jitter (N, 2)); order is -1 on grey cells."""

    settings: BoxesSettings

    @property
    def cutter(self) -> Cutter:
        """How boxes are cut."""
        s = self.settings
        return Cutter(s.size, s.g, s.hardened)

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        tiles = self.side.tiles(rng, s.size, s.n, s.data.distinct)
        count, cells = s.n * s.g**2, s.places * s.g**2
        order = np.pad(rng.permutation(count), (0, cells - count), constant_values=-1)
        return tiles, order, self.cutter.jitter(rng, cells)

    def boxes(
        self, images: torch.Tensor, order: torch.Tensor, jitter: torch.Tensor, marks: torch.Tensor | None
    ) -> torch.Tensor:
        """Boxes (B, N, 3, side, side) in their shuffled order, 0 where there is none.

        The middle of each is painted with the colours of image and place by `marks` (B, N), if given, which number
        boxes as `order` does.
        """
        s = self.settings
        image, place = order.clamp_min(0) // s.g**2, order.clamp_min(0) % s.g**2
        found = self.cutter.finished(self.cutter.cut(images, image, place, jitter))
        if marks is not None:
            found = marked(found, marks.clamp_min(0) // s.g**2, s.places, 0, 2)
            found = marked(found, place, s.g**2, 1, 2)
        return torch.where((order >= 0)[..., None, None, None], found, 0)


class PatchworkItems(BoxesItems, ClassItems):
    """Rows of patchwork; see `BoxesItems`. A batch is (picture (B, 3, H, W), classes (B, N) int64)."""

    settings: PatchworkSettings

    def batch(self, images: torch.Tensor, order: torch.Tensor, jitter: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        s = self.settings
        target = canonical(order, s.g**2)
        boxes = self.boxes(images, order, jitter, target if s.mode == "marked" else None)
        if s.target == "image":
            target = torch.where(target >= 0, target // s.g**2, target)
        return self.cutter.laid_out(boxes, *s.layout), target

    def words(self) -> Sequence[str]:
        """a1, a2, ... b1, ..., or a, b, ..."""
        s = self.settings
        letters = [chr(ord("a") + j) for j in range(s.places)]
        return letters if s.target == "image" else [f"{x}{i + 1}" for x in letters for i in range(s.g**2)]

    def caption(self, target: torch.Tensor) -> str:
        """The names of the boxes as they lie."""
        s = self.settings
        if len(target) > MOST_NAMES:
            return f"{s.n} images of {s.g} x {s.g} boxes"
        names = [self.words()[int(c)] if c >= 0 else "-" for c in target]
        columns = s.layout[1]
        return " / ".join(" ".join(names[i : i + columns]) for i in range(0, len(names), columns))

    def explained(self, picture: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        """The images side by side, each box where its class says; of two in one place the later."""
        s = self.settings
        if s.target == "image":
            return None
        cells = self.cutter.taken_up(picture, *s.layout)
        canvas = torch.zeros_like(cells)
        for box, c in zip(cells, target.tolist()):
            if c >= 0:
                image, place = divmod(c, s.g**2)
                canvas[place // s.g * s.places * s.g + image * s.g + place % s.g] = box
        return self.cutter.laid_out(canvas, s.g, s.places * s.g)


class Patchwork(ClassTask):
    """Patchwork under given settings."""

    Settings: ClassVar[type[PretextSettings]] = PatchworkSettings
    Items: ClassVar[type[PretextItems]] = PatchworkItems
    HEADS = ("cells", "pooled", "fastai")
    SHORTCUTS = (
        "mean colours tell which boxes belong together, and edges that continue which stand side by side; boxes are "
        "cut with margins at random offsets and each is standardised by itself"
    )
    GENERALISES = False
    settings: PatchworkSettings
    metric = "cells right"

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return self.settings.layout

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        s = self.settings
        cells = s.places * s.g**2
        return cells, s.places if s.target == "image" else cells

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        s = self.settings
        images = image_shares(s.n, s.g**2)
        return (images if s.target == "image" else np.repeat(images / s.g**2, s.g**2, axis=1)).tolist()

    def metrics(self) -> list:
        """See `Pretext.metrics`. Of `position`: also how many images, and how many places in their image, are right."""
        per_image = self.settings.g**2
        if self.settings.target == "image":
            return super().metrics()

        def same_image(logits: torch.Tensor, target: torch.Tensor) -> float:
            return accuracy(logits.unflatten(-1, (-1, per_image)).logsumexp(-1), _parts(target, per_image)[0])

        def place_in_image(logits: torch.Tensor, target: torch.Tensor) -> float:
            return accuracy(logits.unflatten(-1, (-1, per_image)).logsumexp(-2), _parts(target, per_image)[1])

        functions = (accuracy, exact, same_image, place_in_image)
        return [AccumMetric(f, flatten=False) for f in functions]

    def stages(self) -> dict[str, Patchwork]:
        """The same task with 2, 4, ... images as far as there is room, for a `Curriculum`."""
        room = self.settings.places
        counts = [n for n in (2, 4, 8, 16) if n < room] + [room]
        return {f"n={n}": self.under(n=n, room=room) for n in counts}

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        s = self.settings
        items = self.raw(rows, seed, mode="plain")
        images, order, jitter = items.first(rows)
        picture, target = items.batch(images, order, jitter)
        boxes = items.cutter.taken_up(picture, *s.layout)
        every = torch.arange(s.n * s.g**2).expand(rows, -1)
        parts = items.cutter.cut(images, every // s.g**2, every % s.g**2, torch.zeros(rows, 1, 2).long())
        parts = items.cutter.finished(parts)
        found = torch.cdist(boxes.flatten(2), parts.flatten(2)).argmin(2)
        return accuracy(self._logits(torch.where(order >= 0, found, -1)), target)

    def _logits(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes (B, N) under any order of the images as logits that mean them."""
        per_image = self.settings.g**2
        labels = canonical(boxes, per_image).clamp_min(0)
        labels = labels // per_image if self.settings.target == "image" else labels
        return torch.nn.functional.one_hot(labels, self.shape()[1]).float()

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`. Only two images of 2 x 2 boxes can be solved by trying all orders."""
        s = self.settings
        if (s.n, s.g, s.places) != (2, 2, 2):
            return {}
        cutter = Cutter(s.size, s.g, s.hardened)

        def edges(batch: tuple) -> float:
            return self.score(self._logits(two_by_edges(cutter.taken_up(batch[0], *s.layout))), batch[1])

        def colour(batch: tuple) -> float:
            return self.score(self._logits(two_by_colour(cutter.taken_up(batch[0], *s.layout)) * 4), batch[1])

        return {"edges": edges} | ({"mean colour": colour} if s.target == "image" else {})


def _parts(target: torch.Tensor, per_image: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and place of classes; -100 stays."""
    there = target >= 0
    return torch.where(there, target // per_image, target), torch.where(there, target % per_image, target)
