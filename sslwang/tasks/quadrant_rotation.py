"""Quadrant rotation: each quarter of an image is turned on its own; by how much?

What it is: one image in 2 x 2 quadrants, each turned counter-clockwise by 0, 90, 180 or 270 degrees, all drawn apart.

Labels: quarter turns (0 to 3) of each quadrant, from left to right and from top to bottom; one softmax a quadrant,
cross-entropy.

Best constant: all turns come equally often: 0.25 of the quadrants are right, all four in 0.0039 of the rows; the loss
is ln 4 = 1.386.

Shortcuts: where quadrants touch, edges continue only if both are turned back: trying all 256 combinations solves the
raw task. So by default quadrants are cut with margins at random offsets, turned within their cells and standardised one
by one.

Oracle: each quadrant is turned back by all angles and compared, pixel by pixel, with the image.

Easier versions: `mode=marked`: quadrants are shaded from their upper to their lower edge before they are turned.

Source: rotation prediction (Gidaris et al. 2018) quadrant by quadrant, as in the notes that this pipeline was started
from. After 5,000 steps a small encoder is at chance (0.23 and 0.29 of the quadrants of unseen regions and photographs,
chance 0.25; see reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

from sslwang.box_solvers import turned_by_edges
from sslwang.data.boxes import Cutter, shaded, turned
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, alike

CELLS = 4


class QuadrantRotationSettings(PretextSettings):
    """Settings of `quadrant-rotation`."""

    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, 2)
        return self


class QuadrantRotationItems(ClassItems):
    """Rows (image (1, S, S, 3), quarters (4,), jitter (4, 2))."""

    settings: QuadrantRotationSettings

    @property
    def cutter(self) -> Cutter:
        """How quadrants are cut."""
        return Cutter(self.settings.size, 2, self.settings.hardened)

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        tiles = self.side.tiles(rng, self.settings.size, 1)
        return tiles, rng.integers(4, size=CELLS), self.cutter.jitter(rng, CELLS)

    def upright(self, images: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        """The quadrants (B, 4, 3, side, side) before they are turned."""
        places = torch.arange(CELLS, device=images.device).expand(len(images), -1)
        return self.cutter.finished(self.cutter.cut(images, torch.zeros_like(places), places, jitter))

    def batch(self, images: torch.Tensor, quarters: torch.Tensor, jitter: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B, 4) int64)."""
        boxes = self.upright(images, jitter)
        if self.settings.mode == "marked":
            boxes = shaded(boxes)
        return self.cutter.laid_out(turned(boxes, quarters), 2, 2), quarters

    def words(self) -> Sequence[str]:
        """Degrees."""
        return "0°", "90°", "180°", "270°"

    def caption(self, target: torch.Tensor) -> str:
        """Degrees as the quadrants lie."""
        names = [self.words()[int(c)] for c in target]
        return f"{names[0]} {names[1]} / {names[2]} {names[3]}"

    def explained(self, picture: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        """The quadrants turned back."""
        return self.cutter.laid_out(turned(self.cutter.taken_up(picture, 2, 2), -target), 2, 2)


class QuadrantRotation(ClassTask):
    """Quadrant rotation under given settings."""

    Settings: ClassVar[type[PretextSettings]] = QuadrantRotationSettings
    Items: ClassVar[type[PretextItems]] = QuadrantRotationItems
    HEADS = ("cells", "pooled", "fastai")
    SHORTCUTS = (
        "edges continue only where both quadrants are turned back; quadrants are cut with margins at random offsets "
        "and standardised one by one"
    )
    GENERALISES = False
    metric = "quadrants right"
    settings: QuadrantRotationSettings

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return 2, 2

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        return CELLS, 4

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(4, CELLS)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, mode="plain")
        images, quarters, jitter = items.first(rows)
        picture, target = items.batch(images, quarters, jitter)
        boxes, upright = items.cutter.taken_up(picture, 2, 2), items.upright(images, jitter)
        gaps = [(boxes.rot90(-k, (-2, -1)) - upright).abs().mean((-3, -2, -1)) for k in range(4)]
        return accuracy(-torch.stack(gaps, -1), target)

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        cutter = Cutter(self.settings.size, 2, self.settings.hardened)

        def edges(batch: tuple) -> float:
            found = turned_by_edges(cutter.taken_up(batch[0], 2, 2))
            return accuracy(torch.nn.functional.one_hot(found, 4).float(), batch[1])

        return {"edges": edges}
