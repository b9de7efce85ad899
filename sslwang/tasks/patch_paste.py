"""Patch paste: a patch was pasted into an image; is it from the same image?

What it is: an image with a square patch (3/8 of its side) pasted in at a random place. In half of the rows (`pct_pos`)
the patch was cut from the same image, at another place that was drawn independently; in the others from another
image, at the place where it is pasted.

Labels: 1 if the patch is from the same image, 0 if not; one logit, binary cross-entropy.

Best constant: max(`pct_pos`, 1 - `pct_pos`) of the rows are right, 0.5 by default, with loss ln 2 = 0.693.

Shortcuts: a patch of another image differs more in colour and brightness from what surrounds it, and the seam around it
is stronger. So by default image and patch are standardised, channel by channel, each by itself, before one is pasted
into the other, and the patch is of no multiple of 8 px.

Oracle: the patch is looked for, pixel by pixel, everywhere in the image before it was pasted.

Easier versions: `other=noise`: in place of a patch of another image there is noise.

Source: the later repository of the notes that this pipeline was started from, with its options: `flip_h` and `flip_v`
flip the patch in half of the rows, `noise` adds noise of that standard deviation to it, `fixed` pastes at the upper
left corner always and cuts an eighth of the side away from it. A small encoder reaches 0.78 on unseen
regions and 0.63 on unseen photographs after 5,000 steps (chance 0.5, see reports/hard-tasks.md), and the raw task 0.92
after 500, by the shortcuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from sslwang.data.pixels import STD, normalised, standardised
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.statistic_solvers import fitted_classes
from sslwang.tasks._classes import ClassItems, ClassTask, accuracy

APART = 0.25  # of the patch's side: least distance across or down between where it is cut and pasted


class PatchPasteSettings(PretextSettings):
    """Settings of `patch-paste`. `noise` is in units of [0, 1]."""

    pct_pos: float = Field(0.5, gt=0, lt=1)
    flip_h: bool = False
    flip_v: bool = False
    noise: float = Field(0.0, ge=0, le=1)
    fixed: bool = False
    other: Literal["image", "noise"] = "image"

    @property
    def patch(self) -> int:
        """Side of the patch in px: 3/8 of the image, but no multiple of 8."""
        side = self.size * 3 // 8
        return side - 1 if side % 8 == 0 else side

    @model_validator(mode="after")
    def _possible(self):
        if self.patch + self.size // 8 > self.size:
            raise ValueError("the image is too small for a patch")
        return self


class PatchPasteItems(ClassItems):
    """Rows (image and other (2, S, S, 3), same, where it is pasted (2,), cut (2,), flips (2,), grain (k, s, s)).

    Places are of the patch's upper left corner, down and across in px.
    """

    settings: PatchPasteSettings

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        same = np.int64(rng.random() < s.pct_pos)
        room = s.size - s.patch
        if s.fixed:
            at, cut = np.zeros(2, np.int64), np.full(2, s.size // 8)
        else:
            at = cut = rng.integers(room + 1, size=2)
            while np.abs(at - cut).max() < APART * s.patch:
                cut = rng.integers(room + 1, size=2)
        flips = rng.integers(2, size=2) * (s.flip_v, s.flip_h)
        grains = 3 if s.noise or s.other == "noise" else 0
        grain = rng.standard_normal((grains, s.patch, s.patch), dtype=np.float32)
        return self.side.tiles(rng, s.size, 2, s.data.distinct), same, at, cut if same else at, flips, grain

    def patches(self, images: torch.Tensor, cut: torch.Tensor) -> torch.Tensor:
        """Patches (B, 3, s, s) of images (B, 3, S, S), with their upper left corners at `cut` (B, 2)."""
        steps = torch.arange(self.settings.patch, device=images.device)
        rows = torch.arange(len(images), device=images.device)[:, None, None]
        y, x = (cut[:, :1] + steps)[:, :, None], (cut[:, 1:] + steps)[:, None]
        return images[rows, :, y, x].movedim(-1, 1)

    def batch(
        self,
        images: torch.Tensor,
        same: torch.Tensor,
        at: torch.Tensor,
        cut: torch.Tensor,
        flips: torch.Tensor,
        grain: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Batch (picture (B, 3, S, S), target (B,) float32)."""
        s = self.settings
        adjust = standardised if s.hardened else normalised
        rows = torch.arange(len(images), device=images.device)
        patch = adjust(self.patches(images[rows, 1 - same], cut))
        if s.other == "noise":
            patch = torch.where(same.bool()[:, None, None, None], patch, grain)
        if s.noise:
            patch = patch + s.noise / STD * grain
        patch = torch.where(flips[:, 0].bool()[:, None, None, None], patch.flip(-2), patch)
        patch = torch.where(flips[:, 1].bool()[:, None, None, None], patch.flip(-1), patch)
        steps = torch.arange(s.patch, device=images.device)
        y, x = (at[:, :1] + steps)[:, :, None], (at[:, 1:] + steps)[:, None]
        picture = adjust(images[:, 0]).clone()
        picture[rows[:, None, None], :, y, x] = patch.movedim(1, -1)
        return picture, same.float()

    def words(self) -> Sequence[str]:
        """Where the patch is from."""
        return "patch of another", "patch of the same"


def surroundings(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """Features (B, 2) of pictures (B, 3, S, S): the strongest seam around a square of `side` px, and how far the mean
    colour in it is from that of the rest."""
    down = (pictures[:, :, 1:] - pictures[:, :, :-1]).abs().mean(1)  # between rows y and y + 1
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(1)
    size = pictures.shape[-1]
    rows, columns = down.unfold(2, side, 1).mean(-1), across.unfold(1, side, 1).mean(-1)
    reach = size - side - 1  # squares whose every side lies inside the picture start at 1 to `reach`
    upper, lower = rows[:, :reach, 1:-1], rows[:, side : side + reach, 1:-1]
    left, right = columns[:, 1:-1, :reach], columns[:, 1:-1, side : side + reach]
    seam = (upper + lower + left + right).flatten(1)
    strongest, place = seam.max(1)
    y, x = place // reach + 1, place % reach + 1
    line = torch.arange(size, device=pictures.device)
    inside = ((line >= y[:, None]) & (line < y[:, None] + side))[:, :, None] & (
        (line >= x[:, None]) & (line < x[:, None] + side)
    )[:, None]
    weight = inside[:, None].float()
    within = (pictures * weight).sum((-2, -1)) / weight.sum((-2, -1))
    outside = (pictures * (1 - weight)).sum((-2, -1)) / (1 - weight).sum((-2, -1))
    return torch.stack([strongest, (within - outside).norm(dim=1)], 1)


class PatchPaste(ClassTask):
    """Patch paste under given settings."""

    Settings: ClassVar[type[PretextSettings]] = PatchPasteSettings
    Items: ClassVar[type[PretextItems]] = PatchPasteItems
    LOSSES = ("bce",)
    SHORTCUTS = (
        "colour and brightness of another image and the seam they make; image and patch are standardised each by "
        "itself before one is pasted into the other"
    )
    EASIER = {"noise": {"other": "noise"}}
    settings: PatchPasteSettings

    def shares(self) -> list[list[float]]:
        """See `ClassTask.shares`."""
        return [[1 - self.settings.pct_pos, self.settings.pct_pos]]

    def oracle(self, rows: int = 64, seed: int = 0) -> float | None:
        """See `Pretext.oracle`."""
        plain = {"flip_h": False, "flip_v": False, "noise": 0.0, "other": "image"}
        items = self.raw(rows, seed, **plain)
        images, same, at, *drawn = items.first(rows)
        picture, target = items.batch(images, same, at, *drawn)
        patch = items.patches(picture, at)
        side = patch.shape[-1]
        before = normalised(images[:, 0])
        gaps = torch.stack(
            [
                (before[..., y : y + side, x : x + side] - patch).abs().mean((-3, -2, -1))
                for y in range(before.shape[-2] - side + 1)
                for x in range(before.shape[-1] - side + 1)
            ],
            1,
        )
        return accuracy((gaps.amin(1) < 1e-4).float() - 0.5, target)

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        side = self.settings.patch
        return {"seam and colour": lambda batch: fitted_classes(surroundings(batch[0], side), batch[1])}
