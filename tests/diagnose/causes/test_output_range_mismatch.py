"""Activations that cannot reach the targets: named and proven; those that can are left alone."""

import pytest
import torch
from learners import diabetes, digits, probabilities, small_cnn
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import binary_column, flat_regression, learner, tabular
from torch import nn
from torch.nn import functional as F

ID = "output-range-mismatch"


class Bounded(nn.Module):
    """An activation that is called as a function, in a model that calls it inside too."""

    def __init__(self, activation, outputs=1):
        super().__init__()
        self.first, self.last, self.activation = nn.Linear(10, 64), nn.Linear(64, outputs), activation

    def forward(self, x):
        return self.activation(self.last(self.activation(self.first(x)) * 2))


@in_turn(build=[diabetes, tabular], fault=["relu-before-the-loss", "sigmoid-before-a-regression"])
def test_an_activation_before_a_regression_is_named(build, fault, seed):
    is_named(with_fault(fault, build, seed), ID)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sigmoid_before_flat_targets_is_named(seed):
    is_named(with_fault("sigmoid-before-a-regression", flat_regression, seed), ID)


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu, F.relu, torch.sigmoid])
def test_the_last_of_several_calls_is_the_one_left_out(activation):
    learn = diabetes(lr=1e-2)
    learn.model = Bounded(activation)
    for loader in learn.dls.loaders:
        loader.dataset.tensors = (loader.dataset.tensors[0], loader.dataset.tensors[1] * 3)
    is_named(examined(learn), ID)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_relu_before_a_binary_loss_is_named(seed):
    learn = binary_column(seed)
    learn.model = nn.Sequential(learn.model, nn.ReLU())
    diagnosis = examined(learn, seed)
    assert ID in [c.id for c in diagnosis.causes if c.proven], diagnosis.summary


def test_a_relu_for_counts_is_left_alone():
    items = [(x, x.sum(dim=(1, 2)) / 10) for x, _ in (digits().dls.train.dataset[i] for i in range(256))]
    model = nn.Sequential(small_cnn(1), nn.ReLU())
    nn.init.ones_(model[0][-1].bias)
    is_left_alone(examined(learner(items, model, nn.MSELoss(), lr=1e-2)), ID)


def test_a_sigmoid_for_probabilities_is_left_alone():
    is_left_alone(examined(probabilities()), ID)


def test_a_relu_before_cross_entropy_is_left_alone():
    is_left_alone(examined(digits(model=nn.Sequential(small_cnn(), nn.ReLU()))), ID)


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("relu-before-the-loss", diabetes)))
    stands_any_evidence(ID, findings_of(with_fault("sigmoid-before-a-regression", diabetes, 1)))
