"""Same position: boxes of several images, cut at one place; at which?

What it is: every box of a G x G picture (default 2 x 2) comes from an image of its own, split into g x g places
(default 2 x 2).

Labels: `same=true`: all boxes were cut at one place, and its index is asked for, from left to right and from top to
bottom (one softmax). `same=false`: each box was cut at a place of its own, drawn with replacement, so that no cell
tells of another; one softmax a cell. Cross-entropy.

Best constant: all places come equally often: 1 / g^2 is right, the loss is ln g^2 (0.25 and 1.386 for 2 x 2).

Shortcuts: whatever cameras and scanners leave at borders of images, such as vignettes and frames, gives places away; so
by default boxes are cut with margins at random offsets and each is standardised by itself. In random crops, which have
no borders, there is nothing of the kind that a probe could find. That skies are above and floors below is what is to
be learned.

Oracle: each box is looked up, pixel by pixel, in its image.

Easier versions: `mode=marked`: the middle of each box is painted with the colour of its place.

Source: the notes that this pipeline was started from; relative position as in Doersch et al. 2015. After
5,000 steps a small encoder is at chance (0.27 and 0.23 on unseen regions and photographs, chance 0.25; see
reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from sslwang.data.boxes import Cutter, marked, place_names
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, alike


class SamePositionSettings(PretextSettings):
    """Settings of `same-position`: `grid` x `grid` boxes of images that are split into g x g places."""

    grid: int = Field(2, ge=1, le=8)
    g: int = Field(2, ge=2, le=8)
    same: bool = True
    mode: Literal["plain", "marked"] = "plain"

    @model_validator(mode="after")
    def _possible(self):
        Cutter(self.size, self.g)
        return self


class PlacesItems(ClassItems):
    """Rows (images (k, S, S, 3), places (k,), jitter (k, 2)): one box an image, laid out in a square picture."""

    @property
    def cutter(self) -> Cutter:
        """How boxes are cut."""
        s = self.settings
        return Cutter(s.size, s.g, s.hardened)

    def places(self, rng: np.random.Generator) -> np.ndarray:
        """Where the boxes of one row are cut, (k,), k a square number."""
        raise NotImplementedError

    def label(self, places: torch.Tensor) -> torch.Tensor:
        """Targets of places (B, k)."""
        raise NotImplementedError

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        places = self.places(rng)
        tiles = self.side.tiles(rng, s.size, len(places), s.data.distinct)
        return tiles, places, self.cutter.jitter(rng, len(places))

    def batch(self, images: torch.Tensor, places: torch.Tensor, jitter: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, H, W), target)."""
        s = self.settings
        each = torch.arange(images.shape[1], device=images.device).expand(len(images), -1)
        boxes = self.cutter.finished(self.cutter.cut(images, each, places, jitter))
        if s.mode == "marked":
            boxes = marked(boxes, places, s.g**2)
        side = round(images.shape[1] ** 0.5)
        return self.cutter.laid_out(boxes, side, side), self.label(places)

    def words(self) -> Sequence[str]:
        """Names of the places."""
        return place_names(self.settings.g)


def places_by_lookup(items: PlacesItems, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (B, k) that raw boxes are found at in their images, pixel by pixel, and the targets of the rows."""
    images, places, jitter = items.first(rows)
    count, every = images.shape[1], items.settings.g**2
    side = round(count**0.5)
    picture, target = items.batch(images, places, jitter)
    boxes = items.cutter.taken_up(picture, side, side)
    which, place = torch.arange(count * every) // every, torch.arange(count * every) % every
    parts = items.cutter.cut(
        images, which.expand(rows, -1), place.expand(rows, -1), torch.zeros(rows, 1, 2, dtype=torch.int64)
    )
    parts = items.cutter.finished(parts).unflatten(1, (count, every))
    return (parts - boxes[:, :, None]).abs().flatten(3).mean(3).argmin(2), target


class SamePositionItems(PlacesItems):
    """Rows of same-position; see `PlacesItems`. Targets are (B,), or (B, G^2) if each box has its own place."""

    settings: SamePositionSettings

    def places(self, rng: np.random.Generator) -> np.ndarray:
        """One place for all, or one for each."""
        s = self.settings
        drawn = rng.integers(s.g**2, size=1 if s.same else s.grid**2)
        return np.broadcast_to(drawn, s.grid**2).copy()

    def label(self, places: torch.Tensor) -> torch.Tensor:
        """See `PlacesItems.label`."""
        return places[:, 0].contiguous() if self.settings.same else places

    def caption(self, target: torch.Tensor) -> str:
        """The place, or those of each box as they lie."""
        s = self.settings
        names = self.words()
        if s.same:
            return f"all {names[int(target)]}"
        short = ["".join(w[0] for w in names[int(c)].split()) if s.g == 2 else str(int(c) + 1) for c in target]
        return " / ".join(" ".join(short[i : i + s.grid]) for i in range(0, len(short), s.grid))


class SamePosition(ClassTask):
    """Same position under given settings."""

    Settings: ClassVar[type[PretextSettings]] = SamePositionSettings
    Items: ClassVar[type[PretextItems]] = SamePositionItems
    SHORTCUTS = "borders of files (vignettes, frames); boxes are cut with margins and each is standardised by itself"
    GENERALISES = False
    settings: SamePositionSettings

    def heads(self) -> tuple[str, ...]:
        """See `Pretext.heads`."""
        return ("pooled", "cells", "fastai") if self.settings.same else ("cells", "pooled", "fastai")

    def grid(self) -> tuple[int, int] | None:
        """See `ClassTask.grid`."""
        return self.settings.grid, self.settings.grid

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        s = self.settings
        return (s.g**2,) if s.same else (s.grid**2, s.g**2)

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        s = self.settings
        return alike(s.g**2, 1 if s.same else s.grid**2)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed, mode="plain")
        found, target = places_by_lookup(items, rows)
        answer = torch.nn.functional.one_hot(items.label(found), self.settings.g**2)
        return accuracy(answer.float(), target)
