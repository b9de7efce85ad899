"""Small layers that several heads share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn


class ConcatPool(nn.Module):
    """Mean and maximum over all places of maps (B, C, h, w), side by side: (B, 2 C)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pooled vectors."""
        return torch.cat([maps.mean((-2, -1)), maps.amax((-2, -1))], dim=1)


def mlp(features: int, hidden: int, outputs: int, layers: int = 1) -> nn.Sequential:
    """`layers` times [linear, ReLU] of width `hidden`, then one linear layer to `outputs`."""
    widths = [features, *[hidden] * layers]
    inner = [m for before, after in itertools.pairwise(widths) for m in (nn.Linear(before, after), nn.ReLU())]
    return nn.Sequential(*inner, nn.Linear(widths[-1], outputs))


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of the last axis of (..., F): all slots of all rows count alike.

    PyTorch's own would take axis 1 of (B, n, F) for the features and give each slot a scale of its own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised, of the same shape."""
        return super().forward(x.flatten(0, -2)).reshape(x.shape)


def vector_norm(kind: str, features: int) -> nn.Module:
    """`layer`, `batch` or `none`, over the last axis."""
    return {"layer": nn.LayerNorm, "batch": BatchNorm, "none": nn.Identity}[kind](features)


class Attention(nn.TransformerEncoderLayer):
    """Self-attention and MLP over tokens (B, T, features), norms first, no dropout, nothing that knows their order.

    Vaswani et al. 2017, norms placed as in Xiong et al. 2020.
    """

    def __init__(self, features: int, heads: int = 4):
        super().__init__(features, heads, 2 * features, dropout=0.0, batch_first=True, norm_first=True)


def encoded_once(encoder: nn.Module, images: Sequence[torch.Tensor]) -> torch.Tensor:
    """k images (B, 3, H, W) each of every row to maps (B, k, C, h, w), in one call of the encoder.

    They are stacked along a new axis 1, so that rows stay rows.
    """
    return encoder(torch.stack(list(images), dim=1).flatten(0, 1)).unflatten(0, (-1, len(images)))
