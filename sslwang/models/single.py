"""Networks that look at one image: an encoder and a head, chosen by name, for any shape of output."""

from __future__ import annotations

import math

import torch
from fastai.vision.learner import create_head
from torch import nn
from torch.nn import functional as F

from sslwang.models.decoder import Decoder
from sslwang.models.layers import Attention, ConcatPool, mlp


class PooledHead(nn.Module):
    """Mean and maximum over the maps, norm, MLP: all outputs of a row at once.

    Args:
        channels: of the maps.
        shape: of a row's output, () for one number, (4, 4) for four times four logits.
        grid: not looked at.
        hidden: width of the hidden layers. layers: how many.
    """

    def __init__(
        self,
        channels: int,
        shape: tuple[int, ...] = (),
        grid: tuple[int, int] | None = None,
        hidden: int = 128,
        layers: int = 1,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.pool, self.norm = ConcatPool(), nn.LayerNorm(2 * channels)
        self.mlp = mlp(2 * channels, hidden, math.prod(shape), layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) to outputs (B, *shape)."""
        return self.mlp(self.norm(self.pool(maps))).reshape(len(maps), *self.shape)


class FastaiHead(nn.Module):
    """fastai's classification head (`create_head`): pool, then batch norm, dropout and linear layers of width 512.

    Maps that come pooled, as vectors (B, 2 C), go past the pool; it would raise "non-empty 3D or 4D tensor expected".

    Args:
        channels, shape, grid: see `PooledHead`.
    """

    def __init__(self, channels: int, shape: tuple[int, ...] = (), grid: tuple[int, int] | None = None):
        super().__init__()
        self.shape = tuple(shape)
        self.pool = ConcatPool()
        self.layers = create_head(2 * channels, math.prod(shape), pool=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) or pooled maps (B, 2 C) to outputs (B, *shape)."""
        pooled = self.pool(maps) if maps.ndim == 4 else maps
        return self.layers(pooled).reshape(len(maps), *self.shape)


class CellsHead(nn.Module):
    """One vector of outputs for each cell of a grid that was laid over the image, from left to right, top to bottom.

    The maps are averaged over each cell. A cell knows its place (a learned embedding) and, through self-attention,
    compares itself with the others: which of the boxes belong together cannot be told from one box alone.

    Args:
        channels: of the maps.
        shape: (R x C, K): K outputs a cell.
        grid: (R, C).
        hidden: width of a cell's vector, a multiple of 4.
        layers: of attention; 0 leaves every cell alone.

    Raises:
        ValueError: no grid, or one that does not have as many cells as `shape` says.
    """

    def __init__(
        self,
        channels: int,
        shape: tuple[int, ...],
        grid: tuple[int, int] | None = None,
        hidden: int = 128,
        layers: int = 2,
    ):
        super().__init__()
        if grid is None or len(shape) != 2 or math.prod(grid) != shape[0]:
            raise ValueError(f"the head `cells` needs shape (R * C, K) and grid (R, C), got {shape} and {grid}")
        self.grid = tuple(grid)
        self.enter = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, hidden))
        self.place = nn.Parameter(0.02 * torch.randn(shape[0], hidden))
        self.attention = nn.Sequential(*(Attention(hidden) for _ in range(layers)))
        self.leave = nn.Sequential(nn.LayerNorm(hidden), mlp(hidden, hidden, shape[1]))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) to outputs (B, R x C, K)."""
        cells = F.adaptive_avg_pool2d(maps, self.grid).flatten(2).transpose(1, 2)
        return self.leave(self.attention(self.enter(cells) + self.place))


class DecoderHead(nn.Module):
    """Pixels: the maps, averaged to 4 x 4, to one vector and from there through a `Decoder`.

    Args:
        channels: of the maps.
        shape: (3, H, W) of the pixels.
        grid: not looked at.
        code: length of the vector in between.
    """

    def __init__(self, channels: int, shape: tuple[int, ...], grid: tuple[int, int] | None = None, code: int = 128):
        super().__init__()
        self.code = nn.Sequential(nn.LayerNorm(16 * channels), nn.Linear(16 * channels, code), nn.ReLU())
        self.decoder = Decoder(code, shape)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) to pixels (B, 3, H, W)."""
        return self.decoder(self.code(F.adaptive_avg_pool2d(maps, 4).flatten(1)))


SINGLE_HEADS = {"pooled": PooledHead, "cells": CellsHead, "fastai": FastaiHead, "decoder": DecoderHead}


class SingleNet(nn.Module):
    """An encoder and a head over its maps.

    Args:
        encoder: images (B, 3, H, W) to maps (B, `encoder.channels`, h, w).
        head: one of `SINGLE_HEADS`.
        shape: of a row's output: () for one number, (K,), (R x C, K), (3, h, w).
        grid: (R, C), for the head `cells`.
        options: of the head.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: str = "pooled",
        shape: tuple[int, ...] = (),
        grid: tuple[int, int] | None = None,
        **options: int,
    ):
        super().__init__()
        self.encoder = encoder
        self.head = SINGLE_HEADS[head](encoder.channels, shape, grid, **options)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to outputs (B, *shape)."""
        return self.head(self.encoder(images))
