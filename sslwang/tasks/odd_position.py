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

Source: the notes that this pipeline was started from. A small encoder stays at chance (0.24 after 500 steps): it must
overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from diagnose.task import Task
from sslwang.data.boxes import Cutter, place_names
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassTask, accuracy, alike
from sslwang.tasks.same_position import PlacesItems, places_by_lookup

CELLS = 4


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
        common, other = rng.choice(self.settings.g**2, 2, replace=False)
        places = np.full(CELLS, common)
        places[rng.integers(CELLS)] = other
        return places

    def label(self, places: torch.Tensor) -> torch.Tensor:
        """The cell whose place no other has."""
        return odd_one(places)

    def words(self) -> Sequence[str]:
        """Names of the cells."""
        return [f"odd: {name}" for name in place_names(2)]


def odd_one(values: torch.Tensor) -> torch.Tensor:
    """Index (B,) of the value in each row (B, k) that fewest others equal."""
    return (values[:, :, None] == values[:, None]).sum(2).argmin(1)


class OddPosition(ClassTask):
    """Odd position under given settings."""

    Settings: ClassVar[type[PretextSettings]] = OddPositionSettings
    Items: ClassVar[type[PretextItems]] = OddPositionItems
    HEADS = ("cells", "pooled", "fastai")
    SHORTCUTS = "borders of files (vignettes, frames); boxes are cut with margins and each is standardised by itself"
    GENERALISES = False
    WHICH = True
    settings: OddPositionSettings

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return 2, 2

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(CELLS)

    def easier(self) -> dict[str, Task]:
        """See `Task.easier`."""
        return {"marked": self.under(mode="marked")}

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.under(hardened=False, inputs="images", mode="plain", items=rows).items(seed, "train")
        found, target = places_by_lookup(items, rows)
        return accuracy(torch.nn.functional.one_hot(odd_one(found), CELLS).float(), target)
