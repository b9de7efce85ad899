"""Features of labelled images under a frozen encoder: the mean and the maximum of every map, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sslwang.finetune import LabelledItems

CHUNK = 256  # images that go through the encoder at once


@torch.no_grad()
def pooled(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Mean, then maximum of each map: (N, 2 C) of images (N, 3, S, S); the encoder is in evaluation mode meanwhile."""
    was = encoder.training
    encoder.eval()
    try:
        maps = encoder(images).float()
    finally:
        encoder.train(was)
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)


def features(
    encoder: nn.Module,
    items: LabelledItems,
    device: str | torch.device = "cpu",
    places: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Features (N, 2 C) float32 of the images as validation sees them, a few hundred at a time.

    Args:
        encoder: is moved to the device.
        items: of the split `valid`, of which nothing is drawn at random.
        places: which of the items; all of them, in their order, if not given.
    """
    encoder = encoder.to(device)
    places = np.arange(len(items)) if places is None else np.asarray(places)
    found = []
    for first in range(0, len(places), CHUNK):
        images, _ = items.collate([items.item(0, int(i)) for i in places[first : first + CHUNK]])
        found.append(pooled(encoder, images.to(device)).cpu())
    return torch.cat(found).numpy()
