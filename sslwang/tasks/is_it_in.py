"""Is it in: is this picture one of the two that were mixed?

What it is: a row is a mixture p a + (1 - p) b of two images, p ~ Beta(5, 8), and one picture: a or b in half of the
rows, a third image in the others. The simplest form of unmix.

Labels: 1 if the picture is in the mixture. One logit, binary cross-entropy.

Best constant: ln 2 = 0.6931; half of the rows are called right.

Shortcuts: pixel by pixel, a picture that was mixed in is correlated with the mixture in its finest detail, another is
not; the mean colour of the mixture is nearer to it too. So the picture is shifted by up to 4 px and flipped (left-right
and upside-down) independently of the mixture, and both are standardised by themselves, channel by channel. Over 2048
hardened rows the mean colour is right in 0.52, which is the share of the commoner class, thumbnails of 8 x 8 px in 0.55
and detail in 0.48 (0.69, 0.77 and 0.97 raw).

Oracle: the correlation of fine detail (each pixel less the mean of its neighbours) of the raw mixture and picture.

Easier versions: `mode=copy`: the mixture is a copy of the picture, or of another; `mode=equal`: both were mixed half
and half, the picture neither shifted nor flipped.

Source: mixup (Zhang et al. 2018) turned into a question; the notes (D18), a binary simplification with a built-in loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from sslwang.data.pixels import normalised, standardised
from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._likeness import LikenessItems, LikenessTask, colour_likeness, thumbnail_likeness

ALIKE = 0.15  # correlation of detail above which a picture is in a mixture


class IsItInSettings(PretextSettings):
    """Settings of `is-it-in`. `shift` is how far the picture may move against the mixture, in px at `size`."""

    mode: Literal["mixed", "equal", "copy"] = "mixed"
    alpha: float = Field(5.0, gt=0)
    beta: float = Field(8.0, gt=0)
    shift: int = Field(4, ge=0, le=64)


class IsItInItems(LikenessItems):
    """A mixture and a picture. A row is (a, b and the picture as they are shown, label, p)."""

    ASKED = "in it"
    ANCHOR = "mixture"

    def row(self, rng: np.random.Generator) -> tuple:
        """One row; see the class."""
        s = self.settings
        label, p = rng.integers(0, 2), rng.beta(s.alpha, s.beta)
        shift = s.shift if s.hardened and s.mode == "mixed" else 0
        a, b, c = self.side.tiles(rng, s.size + 2 * shift, 3, s.data.distinct)
        middle = slice(shift, shift + s.size)
        picture = a if label else c
        if shift:
            y, x = rng.integers(0, 2 * shift + 1, 2)
            across, down = rng.choice((1, -1), 2)
            picture = picture[y : y + s.size, x : x + s.size][::down, ::across]
        share = {"mixed": p if rng.random() < 0.5 else 1 - p, "equal": 0.5, "copy": 1.0}[s.mode]
        images = np.stack([a[middle, middle], b[middle, middle], picture])
        return images, np.array([label], dtype=np.float32), np.float32(share)

    def batch(self, images: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Batch (mixture, picture, labels): images (B, 3, S, S) float32, labels (B, 1) float32."""
        a, b, picture = images.unbind(1)
        mixture = torch.lerp(b, a, shares[:, None, None, None])
        if self.settings.mode == "copy":
            mixture = a  # bit for bit, which 0 x b + 1 x a need not be
        adjust = standardised if self.settings.hardened else normalised
        return adjust(mixture), adjust(picture), labels


class IsItIn(LikenessTask):
    """Is it in under given settings."""

    Settings: ClassVar[type[PretextSettings]] = IsItInSettings
    Items: ClassVar[type[PretextItems]] = IsItInItems
    SHORTCUTS = (
        "correlation of pixels and nearness of mean colours; the picture is shifted and flipped independently of "
        "the mixture, both are standardised by themselves"
    )

    def easier(self) -> dict[str, LikenessTask]:
        """`copy`, then `equal`, under the same settings."""
        return {mode: self.under(mode=mode) for mode in ("copy", "equal")}

    def solved(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Correlation of detail, less what two images have by chance."""
        return detail_likeness(anchor, others) - ALIKE

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        solvers = {"mean colour": colour_likeness, "thumbnail": thumbnail_likeness, "detail": detail_likeness}
        return {n: lambda batch, likeness=s: self.by_likeness(likeness, batch) for n, s in solvers.items()}


def detail_likeness(anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Correlation of what each pixel has over the mean of the 3 x 3 px around it, place by place: (B, n)."""

    def detail(images: torch.Tensor) -> torch.Tensor:
        return (images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)).flatten(1)

    fine = detail(others.flatten(0, 1)).unflatten(0, others.shape[:2])
    return F.cosine_similarity(detail(anchor)[:, None], fine, dim=2)
