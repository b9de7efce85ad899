"""Odd position: three boxes were cut at the same place of their images, one at another; which?

What it is: n = 4 images, split into 2 x 2 places; one box of each is laid out in a 2 x 2 picture. Three were cut at one
place, drawn at random, and the odd one, in a cell drawn at random, at another.

Labels: the cell of the odd one, from left to right and from top to bottom; softmax over the cells, cross-entropy.

Best constant: all cells come equally often: 0.25 is right, the loss is ln 4 = 1.386.

Shortcuts: borders of files (vignettes, frames), against which boxes are cut with margins at random offsets and each is
standardised by itself; random crops have none that a probe could find. Since the common place changes from row to row,
the odd box cannot be told alone.

Oracle: each box is looked up, pixel by pixel, in its image.

Easier versions: `mode=marked`: the middle of each box is painted with the colour of its place.

Source: the notes that this pipeline was started from. After 5,000 steps a small encoder answers a constant (0.24
right, chance 0.25): small crops of photographs do not tell the place of a box (see reports/hard-tasks.md). It must
overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from sslwang.data.boxes import Cutter
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._odd import NAMES, OddTask, odd_one, three_and_one
from sslwang.tasks.same_position import PlacesItems, places_by_lookup


class OddPositionSettings(PretextSettings):
    """Settings of `odd-position`: images are split into g x g places."""

    g: int = Field(2, ge=2, le=8)
    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, self.g)
        return self


class OddPositionItems(PlacesItems):
    """Rows of odd-position; see `PlacesItems`."""

    settings: OddPositionSettings

    def places(self, rng: np.random.Generator) -> np.ndarray:
        """Three alike and one, anywhere, that differs."""
        return three_and_one(rng, self.settings.g**2)

    def label(self, places: torch.Tensor) -> torch.Tensor:
        """The cell whose place no other has."""
        return odd_one(places)

    def words(self) -> Sequence[str]:
        """Names of the cells."""
        return NAMES


class OddPosition(OddTask):
    """Odd position under given settings."""

    Settings: ClassVar[type[PretextSettings]] = OddPositionSettings
    Items: ClassVar[type[PretextItems]] = OddPositionItems
    SHORTCUTS = "borders of files (vignettes, frames); boxes are cut with margins and each is standardised by itself"
    settings: OddPositionSettings

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, mode="plain")
        return self.judged(*places_by_lookup(items, rows))
