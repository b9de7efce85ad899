"""Degraded pairs: are two pictures, both blurred or spoiled by JPEG, of one image?

What it is: a row is a pair of pictures. A coin says whether both show the same crop or two, of different photographs
(`negatives=crop`: of one photograph, the hard case). Each goes through a median filter of 3, 5 or 7 px or through a
JPEG file of quality 5 to 30: which, is drawn for each (`by=either`) or set (`by=blur`, `by=jpeg`).

Labels: 1 if the images are the same. `goal=classify` asks for a logit (binary cross-entropy), `goal=distance` for a
distance of embeddings, small for the same image (contrastive loss).

Best constant: ln 2 = 0.6931 (classify), margin^2 / 8 = 0.125 (distance); half of the rows are called right.

Shortcuts: blur and JPEG leave low frequencies as they were, so the mean colour and thumbnails of 8 x 8 px call nearly
every raw pair right. So each view of the hardened task is cropped to 0.7 to 1 of its side, turned by quarters, mirrored
and flipped by itself, and standardised channel by channel. Over 2048 hardened pairs the mean colour is right in 0.52,
which is the share of the commoner class, and thumbnails in 0.52 (0.98 raw).

Oracle: the correlation of thumbnails of the raw pair.

Easier versions: `views=copies`: the same image is shown twice as it is, degraded once, bit for bit; `views=crops`:
cropped to at least 0.8 of its side and mirrored, no more.

Source: the notes (T10), who degraded with MedianBlur and JpegCompression of albumentations.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sslwang.data.views import Distortion, median_blurred, through_jpeg
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._likeness import GoalItems, GoalSettings, GoalTask

MEDIANS = (3, 5, 7)  # px
QUALITIES = (5, 30)  # of JPEG


class DegradedPairsSettings(GoalSettings):
    """Settings of `degraded-pairs`: what degrades, and where the other image of a negative pair comes from."""

    by: Literal["either", "blur", "jpeg"] = "either"
    negatives: Literal["photo", "crop"] = "photo"


class DegradedPairsItems(GoalItems):
    """Pairs of degraded views, one in two of one image."""

    CHAIN = Distortion(zoom=0.7, quarters=True, mirror=True, flip=True)
    RAW = Distortion()
    ANCHOR = "one view"

    def tiles(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Crops of different photographs, or of one."""
        if self.settings.negatives == "photo":
            return super().tiles(rng, count)
        index = int(rng.integers(len(self.side.images)))
        return np.stack([self.side.tile(rng, self.settings.size, index) for _ in range(count)])

    def worsened(self, tiles: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each picture degraded by itself; copies are degraded once."""
        if self.settings.views == "copies":
            return np.stack([self._degraded(tile, rng) for tile in tiles])[which]
        return np.stack([self._degraded(tiles[k], rng) for k in which])

    def _degraded(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        by = self.settings.by
        if by == "blur" or (by == "either" and rng.random() < 0.5):
            return median_blurred(image, int(rng.choice(MEDIANS)))
        return through_jpeg(image, int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)))


class DegradedPairs(GoalTask):
    """Degraded pairs under given settings."""

    Settings: ClassVar[type[PretextSettings]] = DegradedPairsSettings
    Items: ClassVar[type[PretextItems]] = DegradedPairsItems
    SHORTCUTS = (
        "mean colour and thumbnail survive blur and JPEG; every view is cropped, turned and standardised by itself"
    )
