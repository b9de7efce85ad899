"""N-pair: which of n pictures is a view of the image of the anchor?

What it is: a row is an anchor and n others (default 4), one of which is another view of the anchor's image; the others
are views of other images. Every view is transformed heavily and by itself: cropped to 0.7 to 1 of its side, turned by
quarters, mirrored, flipped, recoloured, blurred, noisy.

Labels: 1 for the positive, 0 for the n - 1 negatives. The loss is log(1 + sum over the negatives of exp(a.n - a.p)) of
dot products of embeddings that all have one learned length.

Best constant: ln n = 1.3863 for n = 4; a constant names the positive in 1 of n rows.

Shortcuts: weakly transformed pictures of one image are all but equal and have the same mean colour, which names the
positive in nearly every raw row. So every view is transformed and standardised by itself, channel by channel. Over 2048
hardened rows the mean colour names it in 0.26 and thumbnails of 8 x 8 px in 0.35 (0.25 is chance, 1.00 raw).

Oracle: the correlation of thumbnails of the raw pictures.

Easier versions: `views=copies`: the positive is the anchor again, bit for bit; `views=crops`: cropped to at least 0.8
of its side and mirrored, no more.

Source: Sohn 2016, "Improved deep metric learning with multi-class N-pair loss objective", equation 6, where the
negatives come from the other pairs of the batch; the notes (T13), anchor and N.
"""

from __future__ import annotations

from typing import ClassVar

from sslwang.pretext import PretextSettings
from sslwang.tasks._likeness import RetrievalSettings, RetrievalTask


class NPair(RetrievalTask):
    """N-pair under given settings: n others, one of them a view of the anchor's image."""

    Settings: ClassVar[type[PretextSettings]] = RetrievalSettings
    HEADS = ("embed-dot",)
    LOSSES = ("n-pair",)
