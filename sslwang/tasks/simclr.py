"""SimCLR: find the other view of an image among all views of the batch (a baseline of the field).

What it is: a row is two views of one image, cropped to 0.6 to 1 of its side, mirrored, recoloured, in a fifth of the
views without colour, and blurred. Encoder and projection head give a vector for each; the views of all other rows are
the negatives. What is used later is the encoder.

Labels: none. In place of a target a row has an integer of its own, which no loss looks at.

Best constant: ln(2 B - 1), equal vectors for all 2 B views of a batch: 4.5539 for 48 rows. By chance half of the other
images are less like a view than its own other one is (`ranked` 0.5).

Shortcuts: crops of one image have the same colours (Chen et al. 2020, section 3.2): the mean colour alone ranks raw
views. So views are recoloured, and standardised by themselves, channel by channel: over 2048 hardened rows the mean
colour ranks 0.50 (0.98 raw).

Oracle: histograms of the colours of the raw views.

Easier versions: `views=copies`: one view twice, bit for bit; `views=crops`: cropped and mirrored only.

Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations"; loss and projection
head are lightly's.
"""

from __future__ import annotations

import math

from sslwang.tasks._views import ViewTask


class SimCLR(ViewTask):
    """SimCLR under given settings."""

    HEADS = ("simclr", "vicreg")
    LOSSES = ("simclr",)

    def best_constant(self) -> float:
        """ln(2 B - 1); times B if summed."""
        s = self.settings
        return math.log(2 * s.bs - 1) * (s.bs if s.loss.reduction == "sum" else 1)
