"""A sigmoid of a sigmoid is named; where the targets lie within its reach it is left alone."""

import torch
from learners import _digits, digits, loaders_of, small_cnn
from naming import examined, is_left_alone, is_named
from torch import nn

ID = "loss-double-activation"
ONLY = ("overfit-one-batch", "loss-contract", "loss-fits-targets")


def squashed_twice(loss, low, high, seed=0):
    x, y = _digits()
    learn = digits(seed, model=nn.Sequential(small_cnn(1), nn.Sigmoid(), nn.Sigmoid()), loss_func=loss, lr=1e-2)
    learn.dls = loaders_of(x, low + (high - low) * (y > 4).float()[:, None])
    return learn


def test_two_sigmoids_in_the_model_are_named():
    for seed in (0, 1):
        first = is_named(examined(squashed_twice(nn.BCELoss(), 0.0, 1.0, seed), seed, only=ONLY), ID)
        assert "sigmoid of a sigmoid" in first.summary
        assert first.proof.change == "inverse sigmoid of the model's output"


def test_targets_within_reach_are_left_alone():
    is_left_alone(examined(squashed_twice(nn.MSELoss(), 0.55, 0.7), only=ONLY), ID)


def test_a_sigmoid_gate_before_the_last_sigmoid_is_no_double_activation():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.gate = small_cnn(1), small_cnn(1)

        def forward(self, x):
            return torch.sigmoid(self.net(x) * torch.sigmoid(self.gate(x)))

    x, y = _digits()
    learn = digits(0, model=Gated(), loss_func=nn.BCELoss(), lr=1e-2)
    learn.dls = loaders_of(x, (y > 4).float()[:, None])
    is_left_alone(examined(learn, only=ONLY), ID)
