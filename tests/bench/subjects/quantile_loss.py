"""The ninth decile of disease progression: regression under the pinball loss."""

import torch
from _support import floats, over, seeded, table
from torch import nn

odd = "predictions lie above most targets, as they should"
held_out = False


def loss(out, y):
    """Pinball loss at 0.9."""
    gap = y - out
    return torch.maximum(0.9 * gap, -0.1 * gap).mean()


def build(seed=0):
    seeded(seed)
    x, y = table("diabetes")
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return over((floats(x),), (floats((y - y.mean()) / y.std())[:, None],), model, loss)
