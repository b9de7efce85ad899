"""From vectors to pixels."""

from __future__ import annotations

import math

import torch
from torch import nn

SEED = 4  # px: about the side of the maps that the first linear layer makes


class Decoder(nn.Module):
    """Vectors (B, features) to images (B, 3, H, W): linear to small maps, then doubled in size until large enough.

    Upsampling and convolution apart, instead of transposed convolution, draw no checkerboards (Odena et al. 2016). The
    pixels are unbounded, for images of mean 0 and standard deviation 1.

    Args:
        features: of the vectors.
        shape: (3, H, W) of the images, of any size.
        width: channels of the first maps, halved at each doubling down to 16.
    """

    def __init__(self, features: int, shape: tuple[int, int, int], width: int = 128):
        super().__init__()
        self.shape = tuple(shape)
        channels, *size = self.shape
        doublings = max(0, round(math.log2(min(size) / SEED)))
        self.seed = (width, *(math.ceil(side / 2**doublings) for side in size))
        self.linear = nn.Linear(features, math.prod(self.seed))
        blocks = []
        for _ in range(doublings):
            after = max(16, width // 2)
            conv = nn.Conv2d(width, after, 3, padding=1, bias=False)
            blocks.append(nn.Sequential(nn.Upsample(scale_factor=2), conv, nn.GroupNorm(8, after), nn.ReLU()))
            width = after
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Images, cropped to their size where doubling overshoots it."""
        _, height, width = self.shape
        return self.blocks(self.linear(vectors).unflatten(1, self.seed))[..., :height, :width]
