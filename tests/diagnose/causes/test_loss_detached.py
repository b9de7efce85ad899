"""A loss without a gradient: named and proven; cuts in the model, saturation and satisfied hinges are left alone."""

import pytest
import torch
from learners import ThroughNumpy, diabetes, digits, small_cnn
from naming import cause_of, examined, findings_of, in_turn, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "loss-detached"


class NoGraph(nn.Module):
    """A model that runs under no_grad as a whole."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        with torch.no_grad():
            return self.net(x)


class Steep(nn.Module):
    """A sigmoid of scores so large that it is exactly 1: every gradient is zero."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn(1)

    def forward(self, x):
        return torch.sigmoid(self.net(x).square() * 0 + self.net(x) + 200)


@in_turn(fault=["loss-through-numpy", "error-rate-as-loss"])
def test_a_loss_of_a_classifier_is_named(fault, seed):
    first = is_named(with_fault(fault, digits, seed), ID)
    assert "missing" in first.proof.before.summary


@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_of_a_regression_is_named(seed):
    is_named(with_fault("loss-through-numpy", diabetes, seed), ID)


@pytest.mark.parametrize("model", [NoGraph, ThroughNumpy])
def test_a_cut_in_the_model_is_another_cause(model):
    diagnosis = examined(digits(model=model()))
    assert ID not in [c.id for c in diagnosis.causes if c.proven]
    assert diagnosis.causes[0].id == "graph-broken"


def test_gradients_that_arrive_and_are_zero_are_another_cause():
    def loss(pred, y):
        return (pred[:, 0] - (y > 4).float()).square().mean()

    diagnosis = examined(digits(model=Steep(), loss_func=loss), only=["gradient-flow"])
    found = findings_of(diagnosis)
    assert len(found.value("gradient-flow", "without gradient")) == found.value("gradient-flow", "trainable tensors")
    assert cause_of(ID).suspect(found) is None


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("loss-through-numpy", digits)))
