"""Layers in a plain list are named; random features in a list under a head that learns are not."""

import torch
from learners import diabetes, digits
from naming import CauseTests
from torch import nn

ID = "params-outside-module"


class Hidden(nn.Module):
    "Keeps a body out of the model on purpose, as people do with a loss network or a teacher."

    def __init__(self):
        super().__init__()
        self.body, self.head = [nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU())], nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body[0](x))


def random_features(seed):
    return digits(seed, model=Hidden(), lr=3e-2)


NAMED = [("layers-in-a-list", digits), ("layers-in-a-list", diabetes)]
HEALTHY = {"random features in a list": random_features}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
