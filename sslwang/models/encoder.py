"""The small convolutional encoder that fits an examination on two CPU cores."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (16, 32, 64, 96)
GROUPS = 8


def norm_layer(kind: str, channels: int) -> nn.Module:
    """`group`: GroupNorm, the same in training and evaluation. `batch`: BatchNorm."""
    return nn.GroupNorm(GROUPS, channels) if kind == "group" else nn.BatchNorm2d(channels)


class Encoder(nn.Sequential):
    """Four times [3x3 convolution of stride 2, norm, ReLU]: (B, 3, H, W) to (B, 96, H/16, W/16); 79 k parameters.

    Args:
        norm: `group` or `batch`.
        widths: channels after each convolution, multiples of 8.
    """

    def __init__(self, norm: str = "group", widths: tuple[int, ...] = WIDTHS):
        layers = []
        for before, after in zip((3, *widths), widths):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers.append(nn.Sequential(conv, norm_layer(norm, after), nn.ReLU(inplace=True)))
        super().__init__(*layers)
        self.channels = widths[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps of images."""
        return super().forward(x)
