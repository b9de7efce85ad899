"""Handwritten digits squeezed through 16 numbers and rebuilt."""

from _support import over, seeded
from learners import _digits
from torch import nn

odd = ""
held_out = True
smoke = ("healthy", "detached-encoder")


def build(seed=0):
    seeded(seed)
    x, _ = _digits()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
    decoder = nn.Sequential(nn.Linear(16, 96), nn.ReLU(), nn.Linear(96, 64), nn.Unflatten(1, (1, 8, 8)))
    return over((x,), (x,), nn.Sequential(encoder, decoder), nn.MSELoss(), lr=5e-3)
