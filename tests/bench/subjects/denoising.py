"""Clean digits out of noisy ones; the noise is drawn in the model while it trains (Vincent et al. 2008)."""

import torch
from _support import over, seeded
from learners import _digits
from torch import nn

odd = "every pass over a batch sees other inputs, and the loss has a floor"
held_out = True


class Noisy(nn.Module):
    """Adds noise in training mode."""

    def forward(self, x):
        return x + 0.2 * torch.randn_like(x) if self.training else x


def build(seed=0):
    seeded(seed)
    x, _ = _digits()
    inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Unflatten(1, (1, 8, 8)))
    return over((x,), (x,), nn.Sequential(Noisy(), inner), nn.MSELoss(), lr=5e-3)
