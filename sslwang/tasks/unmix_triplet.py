"""Unmix by triplets: are the sources that were mixed nearer to the mixture than those that were not?

What it is: the rows of unmix, one mixture and n sources (default 3), two of which were mixed. Each picture becomes an
embedding by itself, and the mixture is the anchor: its sources are the positives, the other sources the negatives.

Labels: 1 for the sources that were mixed. The loss is max(0, margin + d(anchor, p) - d(anchor, n)) over every pair of a
positive p and a negative n of a row: with n = 3, two pairs a row.

Best constant: the margin, 0.2; half of the pairs are ordered right.

Shortcuts: those of unmix: raw, the mean colour of the mixture lies on the line between those of its two sources, and
least squares on the pixels recovers the weights. Hardened as unmix is: every image is standardised by itself, and the
sources are shifted and flipped independently of the mixture. Over 2048 hardened rows the mean colour then orders 0.51
of the pairs and least squares 0.61 (0.5 is chance, 1.00 raw).

Oracle: least squares on the pixels of the raw task.

Easier versions: `mode=dup_src`: the mixture is a copy of one source, which is the only positive; `mode=dup_mix`: one
source of weight 0 is replaced by a copy of the mixture, the only positive; `mode=scale`: the sources are one image
multiplied by the weights.

Source: Schroff et al. 2015 (triplet loss); several positives and negatives of one anchor as in the notes (T12).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastai.metrics import AccumMetric

from diagnose.errors import DiagnoseError
from sslwang.losses import LOSSES
from sslwang.solvers import least_squares, mean_colour_pair
from sslwang.tasks._likeness import ordered
from sslwang.tasks.unmix import Unmix, UnmixSettings


class UnmixTriplet(Unmix):
    """Unmix by triplets under given settings of unmix."""

    HEADS = ("embed-l2",)

    def __init__(self, settings: UnmixSettings | None = None):
        super().__init__(settings)
        if self.settings.target != "classification":
            raise DiagnoseError("--set target=regression: unmix-triplet orders sources; it has no weights to ask for")
        self.metric, self.chance = "ordered", 0.5

    def losses(self) -> tuple[str, ...]:
        """See `Pretext.losses`."""
        return ("triplet",)

    def metrics(self) -> list:
        """See `Pretext.metrics`."""
        return [AccumMetric(ordered, flatten=False)]

    def best_constant(self) -> float:
        """The margin; times the count of pairs if summed."""
        s = self.settings
        positives = 1 if s.mode in ("dup_src", "dup_mix") else 2
        pairs = s.bs * positives * (s.n - positives) if s.loss.reduction == "sum" else 1
        return LOSSES["triplet"]().margin * pairs

    def score(self, outputs: torch.Tensor, *targets: torch.Tensor) -> float:
        """Share of the pairs (positive, negative) of a row that are ordered right."""
        return ordered(outputs, targets[0])

    def probes(self) -> dict[str, Callable[[tuple], float]]:
        """See `Pretext.probes`."""
        solvers = {"mean colour": mean_colour_pair, "least squares": least_squares}
        return {n: lambda b, solve=solve: ordered(solve(b[0], b[1:-1]), b[-1]) for n, solve in solvers.items()}
