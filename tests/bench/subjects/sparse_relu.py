"""Handwritten digits; wide hidden layers with biases below zero, so that few units answer any item."""

import _support
from learners import digits
from torch import nn

odd = "nine of ten activations are zero, and other units answer other items"
held_out = False
smoke = ("healthy",)


def build(seed=0):
    _support.seeded(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    for layer, bias in ((model[1], -0.8), (model[3], -0.2)):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    return digits(seed, model=model, lr=1e-3)
