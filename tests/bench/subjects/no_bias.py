"""Handwritten digits; no layer has a bias."""

import _support
from learners import digits
from torch import nn

odd = "a blank picture gives zero for every class"
held_out = True


def build(seed=0):
    _support.seeded(seed)
    first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.ReLU())
    model = nn.Sequential(first, second, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10, bias=False))
    return digits(seed, model=model)
