"""Handwritten digits; scores are cosines divided by a temperature of 0.1."""

import _support
import torch
from learners import digits, small_cnn
from torch import nn
from torch.nn import functional as F

odd = "the outputs lie on a sphere, and their scale is a constant"
held_out = False


class Cosines(nn.Module):
    """Cosines between features and one prototype a class, divided by the temperature."""

    def __init__(self):
        super().__init__()
        self.encoder, self.prototypes = small_cnn(32), nn.Parameter(torch.randn(10, 32))

    def forward(self, x):
        return F.normalize(self.encoder(x), dim=1) @ F.normalize(self.prototypes, dim=1).T / 0.1


def build(seed=0):
    _support.seeded(seed)
    return digits(seed, model=Cosines())
