"""Handwritten digits; residual blocks that are left out at random in training (Huang et al. 2016)."""

import _support
from learners import digits
from torch import nn
from torchvision.ops import StochasticDepth

odd = "the same batch takes another path each time"
held_out = False


class Block(nn.Module):
    """A residual block; whole rows skip it with probability 0.3."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.left_out = StochasticDepth(0.3, "row")

    def forward(self, x):
        return x + self.left_out(self.inner(x))


def build(seed=0):
    _support.seeded(seed)
    stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))
    return digits(seed, model=nn.Sequential(stem, Block(24), Block(24), head))
