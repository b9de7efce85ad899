"""NT-Xent: which of n pictures are views of the image of the anchor, by cosines under a temperature?

What it is: a row is an anchor and n others (default 4), of which `positives` (default 1) are other views of the
anchor's image; the others are views of other images. Every view is transformed heavily and by itself: cropped to 0.7 to
1 of its side, turned by quarters, mirrored, flipped, recoloured, blurred, noisy.

Labels: 1 for positives, 0 for negatives. The loss is cross-entropy of the softmax over the n cosines, divided by the
temperature 0.1; with several positives it is the mean over them, since cross-entropy as PyTorch's NLLLoss takes a
single class.

Best constant: ln n = 1.3863 for n = 4, however many are positive; a constant finds positives / n of them.

Shortcuts: weakly transformed pictures of one image are all but equal and have the same mean colour, which finds the
positives of nearly every raw row. So every view is transformed and standardised by itself, channel by channel. Over
2048 hardened rows the mean colour finds 0.26 of them and thumbnails of 8 x 8 px 0.35 (0.25 is chance, 1.00 raw).

Oracle: the correlation of thumbnails of the raw pictures.

Easier versions: `views=copies`: positives are the anchor again, bit for bit; `views=crops`: cropped to at least 0.8 of
their side and mirrored, no more.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", equation 1, where the
others are the whole batch (that is the task simclr); several positives as in Khosla et al. 2020; the notes (T14).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from sslwang.pretext import PretextSettings
from sslwang.tasks._likeness import RetrievalSettings, RetrievalTask


class NTXentSettings(RetrievalSettings):
    """Settings of `nt-xent`: n others, `positives` of them positive."""

    positives: int = Field(1, ge=1, le=15)

    @model_validator(mode="after")
    def _possible(self):
        if self.positives >= self.n:
            raise ValueError(f"positives={self.positives} of n={self.n} leaves no negative; use fewer positives")
        return self


class NTXentTask(RetrievalTask):
    """NT-Xent under given settings."""

    Settings: ClassVar[type[PretextSettings]] = NTXentSettings
    HEADS = ("embed-cosine",)
    LOSSES = ("nt-xent",)
