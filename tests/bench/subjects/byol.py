"""Two views of each digit: one predicts the other's features, whose gradient is stopped (BYOL, Grill et al. 2020)."""

import copy

import torch
from _support import over, seeded
from fastai.callback.core import Callback
from learners import _digits
from torch import nn
from torch.nn import functional as F

odd = "one branch gets no gradient, no label is used, and a constant would be a solution"
held_out = True


class Views(nn.Module):
    """Encoder and predictor over one view against a slow copy of the encoder over the other."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 32), nn.BatchNorm1d(32, affine=False)),
        )
        self.predictor = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
        self.slow = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, a, b):
        with torch.no_grad():
            wanted = self.slow(b)
        return self.predictor(self.encoder(a)), wanted


class Slowly(Callback):
    """Moves the slow copy towards the encoder after each step."""

    def after_step(self):
        with torch.no_grad():
            for slow, fast in zip(self.learn.model.slow.parameters(), self.learn.model.encoder.parameters()):
                slow.lerp_(fast, 0.02)


def loss(views, index):
    """One minus the cosine between prediction and target."""
    return 1 - F.cosine_similarity(*views, dim=1).mean()


def build(seed=0):
    seeded(seed)
    x, _ = _digits()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return over((x + 0.1 * noise, x.roll(1, -1)), (torch.arange(len(x)),), Views(), loss, cbs=Slowly())
