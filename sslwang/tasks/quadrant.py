"""Quadrant: one quarter of an image is shown; which?

What it is: a quadrant of an image, drawn at random, and nothing else; of the image at least four fifths of the shorter
side are kept.

Labels: its index, from left to right and from top to bottom: 0 upper left, 1 upper right, 2 lower left, 3 lower right;
softmax, cross-entropy.

Best constant: all quadrants come equally often: 0.25 is right, the loss is ln 4 = 1.386.

Shortcuts: borders of files (vignettes, frames), against which the quadrant is cut with a margin at a random offset and
standardised by itself; random crops have none that a probe could find. Left and right are told apart by nothing but
such artefacts, since images are mirrored at random: at most 0.5 can be learned honestly.

Oracle: the quadrant is looked up, pixel by pixel, in its image.

Easier versions: `mode=marked`: the middle of the quadrant is painted with the colour of its place.

Source: the later repository of the notes that this pipeline was started from, where it was never trained. Quarters of
whole images (`data.crops=whole`) are what it is about: of small crops (`parts`) they do not tell their place, and a
small encoder answers a constant. Of the seven photographs it learns the whole ones by heart, and 0.30 of unseen
photographs after 5,000 steps (chance 0.25, see reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

from sslwang.data.boxes import Cutter
from sslwang.pretext import DataSettings, PretextItems, PretextSettings
from sslwang.tasks._classes import ClassTask, accuracy, alike
from sslwang.tasks.same_position import PlacesItems, places_by_lookup

PLACES = 4


class QuadrantDataSettings(DataSettings):
    """Whole images: a quarter of a small crop from anywhere does not tell which quarter it is."""

    crops: Literal["parts", "whole"] = "whole"


class QuadrantSettings(PretextSettings):
    """Settings of `quadrant`; the picture has half of `size`."""

    mode: Literal["plain", "marked"] = "plain"
    g: Literal[2] = 2
    data: QuadrantDataSettings = QuadrantDataSettings()

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, self.g)
        return self


class QuadrantItems(PlacesItems):
    """Rows of quadrant; see `PlacesItems`."""

    settings: QuadrantSettings

    def places(self, rng: np.random.Generator) -> np.ndarray:
        """One of the four."""
        return rng.integers(PLACES, size=1)

    def label(self, places: torch.Tensor) -> torch.Tensor:
        """The place itself."""
        return places[:, 0].contiguous()


class Quadrant(ClassTask):
    """Quadrant under given settings."""

    Settings: ClassVar[type[PretextSettings]] = QuadrantSettings
    Items: ClassVar[type[PretextItems]] = QuadrantItems
    SHORTCUTS = "borders of files (vignettes, frames); the quadrant is cut with a margin and standardised by itself"
    GENERALISES = False
    settings: QuadrantSettings

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(PLACES)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, mode="plain")
        found, target = places_by_lookup(items, rows)
        return accuracy(torch.nn.functional.one_hot(found[:, 0], PLACES).float(), target)
