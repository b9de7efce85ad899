"""Networks that compare one image with several others: one encoder called once, one head shared by all of them."""

from __future__ import annotations

import torch
from torch import nn


class SpatialPairHead(nn.Module):
    """Compares two stacks of maps before pooling: product, distance and smaller value at each place, then averaged.

    Pooling first forgets where things are. What all sources of a row have in common says nothing about which were
    mixed and yet makes up most of the features, so it is taken out: each feature is centred over the row's sources.
    That also makes the head learn smoothly at rates ten times as high.

    Args:
        channels: of the maps.
        hidden: width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int = 128):
        super().__init__()
        self.norm, self.mlp = _shared_layers(3 * channels, hidden)

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, C, h, w) and others (B, n, C, h, w) to logits (B, n)."""
        pair = torch.cat([anchor * others, (anchor - others).abs(), torch.minimum(anchor, others)], dim=2)
        return self.mlp(_centred(self.norm(pair.mean((-2, -1))))).squeeze(-1)


class PooledPairHead(nn.Module):
    """Compares pooled vectors: their distance and their product, where a vector is [mean, max] of the maps.

    Args:
        channels: of the maps.
        hidden: width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int = 128):
        super().__init__()
        self.norm, self.mlp = _shared_layers(4 * channels, hidden)

    def forward(self, anchor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Anchors (B, 1, C, h, w) and others (B, n, C, h, w) to logits (B, n)."""
        a, b = (torch.cat([x.mean((-2, -1)), x.amax((-2, -1))], dim=2) for x in (anchor, others))
        return self.mlp(_centred(self.norm(torch.cat([(a - b).abs(), a * b], dim=2)))).squeeze(-1)


def _shared_layers(features: int, hidden: int) -> tuple[nn.Module, nn.Module]:
    """Norm and MLP that every source of every row goes through."""
    mlp = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    return nn.LayerNorm(features), mlp


def _centred(features: torch.Tensor) -> torch.Tensor:
    """Features (B, n, F) less their mean over the n sources of the row."""
    return features - features.mean(1, keepdim=True)


HEADS = {"spatial": SpatialPairHead, "pooled": PooledPairHead}


class PairNet(nn.Module):
    """Logit of each of n images, from its comparison with the first image.

    The n + 1 images are stacked along a new axis 1, so that rows stay rows, and encoded in one call.

    Args:
        encoder: images (B, 3, H, W) to maps (B, `encoder.channels`, h, w).
        head: `spatial` or `pooled`.
    """

    def __init__(self, encoder: nn.Module, head: str = "spatial"):
        super().__init__()
        self.encoder = encoder
        self.head = HEADS[head](encoder.channels)

    def encode(self, *images: torch.Tensor) -> torch.Tensor:
        """n + 1 images (B, 3, H, W) each to maps (B, n + 1, C, h, w)."""
        maps = self.encoder(torch.stack(images, dim=1).flatten(0, 1))
        return maps.unflatten(0, (-1, len(images)))

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        """The image to compare with, then n others, (B, 3, H, W) each, to logits (B, n)."""
        maps = self.encode(*images)
        return self.head(maps[:, :1], maps[:, 1:])
