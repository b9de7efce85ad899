"""Hard pairs and triplets: which pictures are of one image, turned, blurred, noisy, recoloured?

What it is: every picture is rotated by up to 90 degrees either way, flipped upside-down in half of the cases, blurred,
noisy, and its channels are shifted. `form=pair`: two pictures, a coin says whether of one image or of two.
`form=triplet`: an anchor and two others in random order, one of the same image, one of another.

Labels: 1 for pictures of the image of the anchor. A pair asks for a logit (binary cross-entropy), a triplet for
distances of embeddings (triplet loss).

Best constant: ln 2 = 0.6931 (pair), the margin, 0.2 (triplet); half of the pairs, and of the triplets, are right.

Shortcuts: a shift of the channels by 0.1 leaves mean colours near each other: they call most raw pairs right. So every
picture is standardised by itself, channel by channel; and it is cropped to 0.8 to 1 of its side, so that the rotation
is not about one and the same point. Over 2048 hardened rows the mean colour is right in 0.52 of the pairs, which is the
share of the commoner class, and in 0.50 of the triplets (0.91 and 0.96 raw).

Oracle: the highest correlation of thumbnails of the raw pictures over all angles and flips.

Easier versions: `views=copies`: the same image is shown as it is, bit for bit; `views=crops`: cropped to at least 0.8
of its side and mirrored, no more.

Source: Schroff et al. 2015 (triplet loss); the notes (T11), whose augmentations were those of albumentations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional as F

from sslwang.data.views import Distortion, warped
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._likeness import (
    LikenessItems,
    LikenessSettings,
    LikenessTask,
    colour_likeness,
    ordered,
)

SIDE = 8  # px of the pictures that the oracle compares
STEP = 7.5  # degrees between the rotations that the oracle tries
ALIKE = 0.8  # highest correlation above which it calls two pictures the same


class HardPairsSettings(LikenessSettings):
    """Settings of `hard-pairs`."""

    form: Literal["pair", "triplet"] = "pair"


class HardPairsItems(LikenessItems):
    """Pairs, or anchors with one positive and one negative."""

    CHAIN = Distortion(zoom=0.8, turn=90, flip=True, blur=1.0, offset=0.1, noise=0.06)
    RAW = Distortion(turn=90, flip=True, blur=1.0, offset=0.1, noise=0.06)

    def others(self) -> int:
        """One, or two in a triplet."""
        return 1 if self.settings.form == "pair" else 2

    def labels(self, rng: np.random.Generator) -> np.ndarray:
        """A coin, or one positive in a random place."""
        first = rng.integers(0, 2)
        return np.array([first] if self.settings.form == "pair" else [first, 1 - first])


class HardPairs(LikenessTask):
    """Hard pairs under given settings."""

    Settings: ClassVar[type[PretextSettings]] = HardPairsSettings
    Items: ClassVar[type[PretextItems]] = HardPairsItems
    SHORTCUTS = "equal mean colours; every picture is cropped and standardised by itself"

    def __init__(self, settings: PretextSettings | None = None):
        super().__init__(settings)
        if self.settings.form == "triplet":
            self.metric = "ordered"

    def heads(self) -> tuple[str, ...]:
        """See `Pretext.heads`."""
        return self.HEADS if self.settings.form == "pair" else ("embed-l2",)

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("bce",) if self.settings.form == "pair" else ("triplet",)

    def measure(self) -> Callable[[torch.Tensor, torch.Tensor], float]:
        """Accuracy of pairs; share of the triplets in which the positive is nearer."""
        return super().measure() if self.settings.form == "pair" else ordered

    def solved(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Highest correlation over rotations and flips of the others."""
        return aligned_likeness(anchor, others) - ALIKE

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        return {"mean colour": lambda batch: self.by_likeness(colour_likeness, batch)}


def aligned_likeness(anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Highest correlation of discs of anchor (B, 3, S, S) and others (B, n, 3, S, S) over rotations and flips: (B, n).

    The corners are left out: a rotation brings in there what the other picture does not show.
    """
    steps = (torch.arange(SIDE, device=anchor.device) + 0.5) * 2 / SIDE - 1
    disc = steps[:, None] ** 2 + steps**2 < 1

    def flattened(images: torch.Tensor) -> torch.Tensor:
        inner = F.adaptive_avg_pool2d(images, SIDE)[..., disc]
        return (inner - inner.mean(-1, keepdim=True)).flatten(1)

    there, flat, best = flattened(anchor), others.flatten(0, 1), []
    for degrees in torch.arange(-180, 180, STEP).deg2rad():
        for flip in (1.0, -1.0):
            cos, sin = float(degrees.cos()), float(degrees.sin())
            where = torch.tensor([[cos, -sin * flip, 0.0], [sin, cos * flip, 0.0]], device=flat.device)
            turned = flattened(warped(flat, where.expand(len(flat), 2, 3))).unflatten(0, others.shape[:2])
            best.append(F.cosine_similarity(there[:, None], turned, dim=2))
    return torch.stack(best).amax(0)
