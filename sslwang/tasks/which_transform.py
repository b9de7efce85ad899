"""Which transform: an image was changed; by what?

What it is: one image after one of m transforms or none (`target=single`), or after a random choice of at least one of
them (`target=multi`), always in the same order. `transforms` names them; all change every image visibly.

Labels: `target=single`: 0 for none, else the number of the transform; softmax over m + 1 classes, cross-entropy.
`target=multi`: 1 for each transform that was applied, 0 for the others; one logit a transform, binary cross-entropy.

Best constant: single: 1 / (m + 1) is right, the loss is ln(m + 1) (0.167 and 1.792 for m = 5). Multi: each transform is
applied in 2^(m - 1) of 2^m - 1 rows, so that 0.516 of the labels are right for m = 5 (all of them in 1 of 31 rows), the
loss is 0.693.

Shortcuts: brightness, contrast and the differences of the channels tell a grey, a posterized or a blurred image without
looking at it; by default every image is standardised by itself, channel by channel. What is learned may still be the
traces of the transforms and not what images show: judge the encoder by its transfer.

Oracle: the transform, or the choice of them, that reproduces the picture from the image, pixel by pixel.

Easier versions: `strength=2`: more blur, more noise, larger blocks, fewer shades.

Source: the notes that this pipeline was started from; predicting transforms as in Dosovitskiy et al. 2014. A small
encoder reaches 0.99 on unseen regions and 0.95 on unseen photographs after 5,000 steps (chance 0.167, see
reports/hard-tasks.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from sslwang.data.pixels import normalised, standardised
from sslwang.data.transforms import TRANSFORMS, Draws, applied, draws
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.statistic_solvers import fitted_classes
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, alike


class WhichTransformSettings(PretextSettings):
    """Settings of `which-transform`. `transforms`: names with commas between them; `strength` scales amounts."""

    transforms: str = "grey,posterize,pixelate,blur,noise"
    target: Literal["single", "multi"] = "single"
    strength: float = Field(1.0, gt=0, le=4)

    @field_validator("transforms")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [n.strip() for n in value.split(",")]
        unknown = [n for n in names if n not in TRANSFORMS]
        if unknown:
            raise ValueError(f"no transform named {unknown[0]!r}; known: {', '.join(TRANSFORMS)}")
        if len(set(names)) < len(names):
            raise ValueError("a transform is named twice")
        if {"upside-down", "quarter-turn"} <= set(names):
            raise ValueError("upside-down and quarter-turn are one in part of the rows; take one of them")
        return ",".join(names)

    @property
    def names(self) -> list[str]:
        """The transforms."""
        return self.transforms.split(",")


class WhichTransformItems(ClassItems):
    """Rows (image (1, S, S, 3), which (m,) of 0 and 1, draws ...)."""

    settings: WhichTransformSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        count = len(s.names)
        if s.target == "single":
            which = np.arange(1, count + 1) == rng.integers(count + 1)
        else:
            which = rng.integers(1, 2**count) >> np.arange(count) & 1
        tiles = self.side.tiles(rng, s.size, 1)
        return tiles, which.astype(np.int64), *draws(rng, s.size, "noise" in s.names)

    def batch(self, images: torch.Tensor, which: torch.Tensor, *drawn: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B,) int64 or (B, m) float32)."""
        s = self.settings
        changed = applied(images[:, 0], s.names, which, Draws(*drawn), s.strength)
        number = (which * torch.arange(1, len(s.names) + 1, device=which.device)).sum(1)
        target = number if s.target == "single" else which.float()
        return (standardised if s.hardened else normalised)(changed), target

    def words(self) -> Sequence[str]:
        """None, then the transforms."""
        return ["none", *self.settings.names]

    def caption(self, target: torch.Tensor) -> str:
        """What was applied."""
        if self.settings.target == "single":
            return super().caption(target)
        return ", ".join(n for n, label in zip(self.settings.names, target.tolist()) if label) or "none"


class WhichTransform(ClassTask):
    """Which transform, under given settings."""

    Settings: ClassVar[type[PretextSettings]] = WhichTransformSettings
    Items: ClassVar[type[PretextItems]] = WhichTransformItems
    SHORTCUTS = (
        "brightness, contrast and differences of channels tell some transforms; every image is standardised by itself"
    )
    EASIER = {"strong": {"strength": 2.0}}
    settings: WhichTransformSettings

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("ce",) if self.settings.target == "single" else ("bce",)

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        count = len(self.settings.names)
        if self.settings.target == "single":
            return alike(count + 1)
        rate = 2 ** (count - 1) / (2**count - 1)
        return [[1 - rate, rate]] * count

    def shape(self) -> tuple[int, ...]:
        """See `ClassTask.shape`."""
        count = len(self.settings.names)
        return (count + 1,) if self.settings.target == "single" else (count,)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        s = self.settings
        items = self.raw(rows, seed)
        images, which, *drawn = items.first(rows)
        picture, target = items.batch(images, which, *drawn)
        count = len(s.names)
        choices = torch.tensor(list(itertools.product((0, 1), repeat=count)))
        wanted = choices.sum(1) <= 1 if s.target == "single" else choices.sum(1) >= 1
        choices = choices[wanted]
        gaps = []
        for choice in choices:
            made = applied(images[:, 0], s.names, choice.expand(rows, -1), Draws(*drawn), s.strength)
            gaps.append((normalised(made) - picture).abs().flatten(1).mean(1))
        found = choices[torch.stack(gaps, 1).argmin(1)]
        if s.target == "multi":
            return accuracy(found - 0.5, target)
        number = (found * torch.arange(1, count + 1)).sum(1)
        return accuracy(torch.nn.functional.one_hot(number, count + 1).float(), target)

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        if self.settings.target == "multi":
            return {}

        def statistics(batch: tuple) -> float:
            mean, deviation = batch[0].mean((-2, -1)), batch[0].std((-2, -1))
            spread = torch.stack([mean.amax(1) - mean.amin(1), deviation.amax(1) - deviation.amin(1)], 1)
            return fitted_classes(torch.cat([mean, deviation, spread], 1), batch[1])

        return {"brightness and contrast": statistics}
