"""VICReg: equal vectors for two views of an image, varied ones over images (a baseline of the field).

What it is: a row is two views of one image, cropped to 0.6 to 1 of its side, mirrored, recoloured, in a fifth of the
views without colour, and blurred. Encoder and projection head give a vector for each. Vectors of one image are to be
equal, each of their features is to vary over the batch, and no two features are to vary together: there are no
negatives. What is used later is the encoder.

Labels: none. In place of a target a row has an integer of its own, which no loss looks at.

Best constant: 24.75 = 25 x (1 - 0.01): equal vectors do not vary, and the square root of the variance has 0.0001 under
it. By chance half of the other images are less like a view than its own other one is (`ranked` 0.5).

Shortcuts: crops of one image have the same colours (Chen et al. 2020, section 3.2): the mean colour alone ranks raw
views. So views are recoloured, and standardised by themselves, channel by channel: over 2048 hardened rows the mean
colour ranks 0.50 (0.98 raw).

Oracle: histograms of the colours of the raw views.

Easier versions: `views=copies`: one view twice, bit for bit; `views=crops`: cropped and mirrored only.

Source: Bardes et al. 2022, "VICReg: variance-invariance-covariance regularization for self-supervised learning"; loss
and projection head are lightly's.
"""

from __future__ import annotations

from sslwang.tasks._views import ViewTask

SPREAD, ROOT = 25.0, 0.01  # weight of the variance, and the square root of the 1e-4 that lightly adds to it


class VICReg(ViewTask):
    """VICReg under given settings."""

    HEADS = ("vicreg", "simclr")
    LOSSES = ("vicreg",)

    def best_constant(self) -> float:
        """25 x 0.99; times B if summed."""
        s = self.settings
        return SPREAD * (1 - ROOT) * (s.bs if s.loss.reduction == "sum" else 1)
