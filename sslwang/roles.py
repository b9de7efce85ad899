"""Batches whose rows show several images by role: (first, other 1, ..., other n, target (B, n))."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F


def twins_among(images: Sequence[torch.Tensor], pairs: Iterable[tuple[int, int]]) -> torch.Tensor | None:
    """Rows in which the images (B, 3, S, S) of two roles are alike to the bit, as (k, 3) integers: row, role, role."""
    found = []
    for i, j in pairs:
        rows = (images[i] == images[j]).flatten(1).all(1).nonzero()
        found.append(F.pad(rows, (0, 2)) + torch.tensor([0, i, j], device=rows.device))
    twins = torch.cat(found)
    return twins if len(twins) else None


def reordered(batch: tuple, order: list[int]) -> tuple:
    """The batch with other k replaced by other `order[k]`, targets alike."""
    first, *others, target = batch
    return first, *(others[k] for k in order), target[:, order]
