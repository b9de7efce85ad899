"""Odd rotation: three boxes were turned alike, one otherwise; which?

What it is: n = 4 images; one box of each, cut at a place drawn at random from 2 x 2, is laid out in a 2 x 2 picture.
Three were turned by an angle a, the odd one, in a cell drawn at random, by another, b; both are multiples of 90
degrees, counter-clockwise.

Labels: the cell of the odd one, from left to right and from top to bottom; softmax over the cells, cross-entropy.

Best constant: all cells come equally often: 0.25 is right, the loss is ln 4 = 1.386.

Shortcuts: were a always 0, it would be enough to find the one box that stands upside-down or on its side; so both
angles are drawn. Turning by quarters leaves no trace in pixels, so there is nothing that a probe could find; what
photographs carry themselves (blocks of JPEG, colour fringes) is weakened by margins at random offsets and by
standardising each box by itself.

Oracle: each box is turned back by all angles and looked up, pixel by pixel, in its image.

Easier versions: `mode=marked`: boxes are shaded from their upper to their lower edge before they are turned.

Source: rotation prediction (Gidaris et al. 2018) as odd-one-out (Fernando et al. 2017), as in the notes that this
pipeline was started from. After 5,000 steps a small encoder answers a constant (0.24 right, chance 0.25; see
reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

from sslwang.data.boxes import Cutter, shaded, turned
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassItems
from sslwang.tasks._odd import CELLS, NAMES, OddTask, odd_one, three_and_one


class OddRotationSettings(PretextSettings):
    """Settings of `odd-rotation`."""

    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, 2)
        return self


class OddRotationItems(ClassItems):
    """Rows (images (4, S, S, 3), places (4,), quarters (4,), jitter (4, 2))."""

    settings: OddRotationSettings

    @property
    def cutter(self) -> Cutter:
        """How boxes are cut."""
        return Cutter(self.settings.size, 2, self.settings.hardened)

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        quarters = three_and_one(rng, 4)
        tiles = self.side.tiles(rng, s.size, CELLS, s.data.distinct)
        return tiles, rng.integers(4, size=CELLS), quarters, self.cutter.jitter(rng, CELLS)

    def upright(self, images: torch.Tensor, places: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        """The boxes (B, 4, 3, side, side) before they are turned."""
        each = torch.arange(CELLS, device=images.device).expand(len(images), -1)
        return self.cutter.finished(self.cutter.cut(images, each, places, jitter))

    def batch(
        self, images: torch.Tensor, places: torch.Tensor, quarters: torch.Tensor, jitter: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B,) int64)."""
        boxes = self.upright(images, places, jitter)
        if self.settings.mode == "marked":
            boxes = shaded(boxes)
        return self.cutter.laid_out(turned(boxes, quarters), 2, 2), odd_one(quarters)

    def words(self) -> Sequence[str]:
        """Names of the cells."""
        return NAMES


class OddRotation(OddTask):
    """Odd rotation under given settings."""

    Settings: ClassVar[type[PretextSettings]] = OddRotationSettings
    Items: ClassVar[type[PretextItems]] = OddRotationItems
    SHORTCUTS = "finding the one box that is not upright, were the others always; both angles are drawn"
    settings: OddRotationSettings

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, mode="plain")
        images, places, quarters, jitter = items.first(rows)
        picture, target = items.batch(images, places, quarters, jitter)
        boxes = items.cutter.taken_up(picture, 2, 2)
        gaps = []
        for k in range(4):
            back = boxes.rot90(-k, (-2, -1))
            at = [items.upright(images, torch.full_like(places, p), jitter) for p in range(4)]
            gaps.append(torch.stack([(back - x).abs().mean((-3, -2, -1)) for x in at], 2).amin(2))
        return self.judged(torch.stack(gaps, 2).argmin(2), target)
