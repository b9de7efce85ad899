"""Solvers in closed form, without a network: oracles where they must find the labels, probes where they must fail."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch


def mean_colour_pair(mixture: torch.Tensor, sources: Sequence[torch.Tensor]) -> torch.Tensor:
    """The pair whose mean colours have that of the mixture on the line between them, as 1 and 0: (B, n).

    Three numbers an image are enough to unmix raw photographs.
    """
    point = mixture.mean((-2, -1))
    ends = torch.stack(list(sources), 1).mean((-2, -1))
    pairs = list(itertools.combinations(range(len(sources)), 2))
    distances = []
    for i, j in pairs:
        line = ends[:, j] - ends[:, i]
        along = ((point - ends[:, i]) * line).sum(1) / line.square().sum(1).clamp_min(1e-12)
        distances.append((ends[:, i] + along.clamp(0, 1)[:, None] * line - point).norm(dim=1))
    chosen = torch.tensor(pairs, device=point.device)[torch.stack(distances, 1).argmin(1)]
    return torch.zeros_like(ends[:, :, 0]).scatter_(1, chosen, 1.0)


def least_squares(mixture: torch.Tensor, sources: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights (B, n) of the sources that come nearest to the mixture, pixel by pixel; a mean over the channels."""
    columns = torch.stack(list(sources), 2).flatten(3).transpose(2, 3)
    return torch.linalg.lstsq(columns, mixture.flatten(2).unsqueeze(-1)).solution.squeeze(-1).mean(1)
