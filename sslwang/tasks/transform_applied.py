"""Transform applied: was the image changed or not?

What it is: one image, after one given transform in half of the rows (`transform`, default elastic: the image is bent
by a smooth random field).

Labels: 1 if the transform was applied, 0 if not; one logit, binary cross-entropy.

Best constant: half of the rows are right, the loss is ln 2 = 0.693.

Shortcuts: sampling between pixels takes sharpness away, so that a bent image is told from others without looking at
shapes. So by default images that are not bent are moved by fractions of a pixel and sampled alike, both are then
blurred a little (1 px at 64), and for all transforms every image is standardised by itself, channel by channel, since
brightness and contrast tell some of them.

Oracle: whether the picture differs from the image.

Easier versions: `transform=noise`.

Source: the later repository of the notes that this pipeline was started from, where channel shuffle, elastic and
upside-down were learned but transferred badly. Of hardened elastic a small encoder learns
nothing in 5,000 steps (0.50 right, chance 0.5; see reports/hard-tasks.md): it must overfit a fixed batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from sslwang.data.pixels import normalised, standardised
from sslwang.data.transforms import BEND, REFERENCE, Draws, applied, draws, moved, softened
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.statistic_solvers import fitted_classes, sharpness
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy, alike

Name = Literal[
    "elastic",
    "channel-shuffle",
    "upside-down",
    "quarter-turn",
    "grey",
    "invert",
    "posterize",
    "pixelate",
    "blur",
    "noise",
]


class TransformAppliedSettings(PretextSettings):
    """Settings of `transform-applied`. `strength` scales amounts."""

    transform: Name = "elastic"
    strength: float = Field(1.0, gt=0, le=4)


class TransformAppliedItems(ClassItems):
    """Rows (image (1, S, S, 3), applied or not, draws ...)."""

    settings: TransformAppliedSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        label = rng.integers(2)
        return self.side.tiles(rng, s.size, 1), label, *draws(rng, s.size, s.transform == "noise")

    def batch(self, images: torch.Tensor, label: torch.Tensor, *drawn: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B,) float32)."""
        s, d = self.settings, Draws(*drawn)
        image, yes = images[:, 0], label[:, None]
        picture = applied(image, [s.transform], yes, d, s.strength)
        if s.hardened and s.transform == "elastic":
            amount = s.strength * BEND * s.size / REFERENCE
            still = moved(image, amount * d.field[:, :, :1, :1])  # the same for every pixel: a shift
            picture = softened(torch.where(yes[..., None, None].bool(), picture, still), s.size / REFERENCE)
        return (standardised if s.hardened else normalised)(picture), label.float()

    def words(self) -> Sequence[str]:
        """As it was, and the transform."""
        return "as it was", self.settings.transform


class TransformApplied(ClassTask):
    """Transform applied, under given settings."""

    Settings: ClassVar[type[PretextSettings]] = TransformAppliedSettings
    Items: ClassVar[type[PretextItems]] = TransformAppliedItems
    LOSSES = ("bce",)
    SHORTCUTS = (
        "sampling between pixels takes sharpness away, brightness and contrast tell other transforms; what is not bent "
        "is moved and sampled alike, both are blurred a little, and every image is standardised by itself"
    )
    GENERALISES = False
    EASIER = {"noise": {"transform": "noise"}}
    settings: TransformAppliedSettings

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return alike(2)

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        items = self.raw(rows, seed)
        images, *drawn = items.first(rows)
        picture, target = items.batch(images, *drawn)
        differs = (picture - normalised(images[:, 0])).abs().flatten(1).amax(1) > 1e-4
        return accuracy(differs.float() - 0.5, target)

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`. What makes a picture of another transform is not to be separated from its traces."""
        if self.settings.transform != "elastic":
            return {}
        return {"sharpness": lambda batch: fitted_classes(sharpness(batch[0]), batch[1])}
