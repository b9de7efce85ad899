"""Same or different: are two heavily transformed pictures of one image, or of two?

What it is: a row is a pair of views. A coin says whether both show the same crop of a photograph or crops of two. Every
view is transformed heavily and by itself, those of different images too: cropped to 0.7 to 1 of its side, turned by
quarters, mirrored, flipped, its channels multiplied and shifted, in a fifth of the views without colour, blurred,
noisy.

Labels: 1 if the images are the same. `goal=classify` asks for a logit (binary cross-entropy), `goal=distance` for a
distance of embeddings, small for the same image (contrastive loss).

Best constant: ln 2 = 0.6931 (classify), margin^2 / 8 = 0.125 (distance); half of the rows are called right.

Shortcuts: weakly transformed pictures of one image are all but equal, pixel by pixel, and have the same mean colour:
thumbnails of 8 x 8 px and mean colours call nearly every raw pair right. So the transforms are heavy, on both sides and
on negatives alike, and every view is standardised by itself, channel by channel, which takes the mean colour away. Over
2048 hardened pairs the mean colour is right in 0.52, which is the share of the commoner class, and thumbnails in 0.51
(0.98 raw).

Oracle: the correlation of thumbnails of the raw pair.

Easier versions: `views=copies`: the same image is shown twice as it is, bit for bit; `views=crops`: cropped to at least
0.8 of its side and mirrored, no more.

Source: Bromley et al. 1993 (one network for both of a pair), Hadsell et al. 2006 (contrastive loss); the notes (T8).
"""

from __future__ import annotations

from typing import ClassVar

from sslwang.pretext import PretextItems, PretextSettings
from sslwang.tasks._likeness import GoalItems, GoalSettings, GoalTask


class SameOrDifferentItems(GoalItems):
    """Pairs of views, one in two of one image."""

    ANCHOR = "one view"


class SameOrDifferent(GoalTask):
    """Same or different under given settings."""

    Settings: ClassVar[type[PretextSettings]] = GoalSettings
    Items: ClassVar[type[PretextItems]] = SameOrDifferentItems
    SHORTCUTS = (
        "equal pixels, equal mean colours; both views, of negatives too, are cropped, turned, recoloured, blurred and "
        "standardised by themselves"
    )
