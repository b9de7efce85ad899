"""Handwritten digits; residual blocks whose last batch norm starts at zero (Goyal et al. 2017)."""

import _support
from learners import digits
from torch import nn

odd = "half of each block gets no gradient at the first step"
held_out = False


class Block(nn.Module):
    """Two convolutions whose sum with the input is the output; at first it is the input."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        nn.init.zeros_(self.second[1].weight)

    def forward(self, x):
        return (x + self.second(self.first(x))).relu()


def build(seed=0):
    _support.seeded(seed)
    stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))
    model = nn.Sequential(stem, Block(24), Block(24), head)
    return digits(seed, model=model)
