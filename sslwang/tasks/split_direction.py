"""Split direction: an image was cut into two halves; from left to right or from top to bottom?

What it is: the left and the right half of an image, or its upper and its lower half, as two columns of two boxes each.
The halves, and the boxes in them, come in random order, and all boxes are turned alike by a random multiple of 90
degrees. So both cases look the same but for what is on the boxes: those of a column once stood one above the other, or
side by side.

Labels: 0 if a vertical cut parted left and right, 1 if a horizontal cut parted top and bottom, as the photograph stood;
one logit, binary cross-entropy.

Best constant: half of the rows are right, the loss is ln 2 = 0.693.

Shortcuts: edges that continue tell whether the boxes of a column stood above each other; so boxes are cut with margins
at random offsets, and each is standardised by itself. Were boxes turned in one of the two cases only, as halves of
different shape would have to be, that alone would give the label; so turns are drawn alike in both. In the raw task
boxes are neither reordered nor turned.

Oracle: each box is turned back and looked up, pixel by pixel, in the image.

Easier versions: `mode=marked`: boxes are neither reordered nor turned, and the middle of each is painted with
the colour of its place.

Source: the notes that this pipeline was started from. After 5,000 steps a small encoder answers a constant (0.50
right, chance 0.5; see reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

from sslwang.box_solvers import beside
from sslwang.data.boxes import Cutter, marked, turned
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, alike

CELLS = 4
HALVES = (((0, 2), (1, 3)), ((0, 1), (2, 3)))  # places of a 2 x 2 grid: left and right, upper and lower
COLUMNS = ((0, 2), (1, 3))  # cells of the picture


class SplitDirectionSettings(PretextSettings):
    """Settings of `split-direction`."""

    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, 2)
        return self


class SplitDirectionItems(ClassItems):
    """Rows (image (1, S, S, 3), label, places (4,) of the cells' boxes, quarter turns, jitter (4, 2))."""

    settings: SplitDirectionSettings

    @property
    def cutter(self) -> Cutter:
        """How boxes are cut."""
        return Cutter(self.settings.size, 2, self.settings.hardened)

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        label = rng.integers(2)
        halves = np.array(HALVES[label])
        quarters = rng.integers(4)
        order = rng.permutation(2), rng.permutation(2), rng.permutation(2)
        plain = s.hardened and s.mode == "plain"
        if plain:
            halves = np.stack([half[o] for half, o in zip(halves[order[0]], order[1:])])
        if not plain:
            quarters = np.zeros_like(quarters)
        tiles = self.side.tiles(rng, s.size, 1)
        return tiles, label, halves.T.flatten(), quarters, self.cutter.jitter(rng, CELLS)

    def upright(self, images: torch.Tensor, places: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        """The boxes (B, 4, 3, side, side) before they are turned."""
        return self.cutter.finished(self.cutter.cut(images, torch.zeros_like(places), places, jitter))

    def batch(
        self,
        images: torch.Tensor,
        label: torch.Tensor,
        places: torch.Tensor,
        quarters: torch.Tensor,
        jitter: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B,) float32)."""
        boxes = self.upright(images, places, jitter)
        if self.settings.mode == "marked":
            boxes = marked(boxes, places, CELLS)
        return self.cutter.laid_out(turned(boxes, quarters[:, None].expand(-1, CELLS)), 2, 2), label.float()

    def words(self) -> Sequence[str]:
        """What the columns are."""
        return "columns: left, right", "columns: top, bottom"


class SplitDirection(ClassTask):
    """Split direction under given settings."""

    Settings: ClassVar[type[PretextSettings]] = SplitDirectionSettings
    Items: ClassVar[type[PretextItems]] = SplitDirectionItems
    HEADS = ("cells", "pooled", "fastai")
    LOSSES = ("bce",)
    SHORTCUTS = (
        "edges that continue tell how the boxes of a column stood, and turning one case only would tell it; boxes are "
        "cut with margins, reordered, turned alike in both cases and standardised one by one"
    )
    GENERALISES = False
    settings: SplitDirectionSettings

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return 2, 2

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(2)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`. On the reordered and turned boxes, which keep their pixels."""
        items = self.raw(rows, seed, mode="plain", hardened=self.settings.hardened)
        images, _, places, _, jitter = drawn = items.first(rows)
        picture, target = items.batch(*drawn)
        boxes = items.cutter.taken_up(picture, 2, 2)
        gaps = []
        for place in range(CELLS):
            there = items.upright(images, torch.full_like(places, place), jitter)
            turns = [(boxes.rot90(-k, (-2, -1)) - there).abs().mean((-3, -2, -1)) for k in range(4)]
            gaps.append(torch.stack(turns, 2).amin(2))
        found = torch.stack(gaps, 2).argmin(2)  # (B, cells)
        above = found[:, 0] % 2 == found[:, 2] % 2  # the boxes of the first column are of one column of the image
        return accuracy(0.5 - above.float(), target)

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        cutter = Cutter(self.settings.size, 2, self.settings.hardened)

        def edges(batch: tuple) -> float:
            right, below = beside(cutter.taken_up(batch[0], 2, 2))
            difference = 0
            for a, b in COLUMNS:
                stood_above = torch.minimum(below[:, a, b], below[:, b, a])
                stood_beside = torch.minimum(right[:, a, b], right[:, b, a])
                difference = difference + stood_above - stood_beside
            return accuracy(difference, batch[1])

        return {"edges": edges}
