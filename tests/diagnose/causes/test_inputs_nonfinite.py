"""NaN and infinity in items: named and proven; NaN that the model copes with and missing labels are left alone."""

import re

import torch
from data_subjects import digit, over
from learners import diabetes, digits, small_cnn
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "inputs-nonfinite"


class FillsIn(nn.Module):
    """A model that takes NaN for zero."""

    def __init__(self, outputs: int):
        super().__init__()
        self.net = small_cnn(outputs)

    def forward(self, x):
        return self.net(torch.nan_to_num(x))


class Masked(nn.Module):
    """Squared error over the labels that are there."""

    def forward(self, pred, y):
        known = ~torch.isnan(y)
        return ((pred - torch.nan_to_num(y)).square() * known).sum() / known.sum()


@in_turn(build=[digits, diabetes], fault=["nan-in-items", "infinity-in-items"])
def test_what_is_not_finite_is_named(build, fault, seed):
    first = is_named(with_fault(fault, build, seed), ID)
    assert re.search(r"item \d+, input 1", first.summary), first.summary


def test_a_target_that_is_nan_is_named():
    learn = diabetes()
    learn.dls.train.dataset.tensors[1][::10] = torch.nan
    assert "target" in is_named(examined(learn), ID).summary


def test_nan_that_the_model_fills_in_is_left_alone():
    def holey(i):
        x, y = digit(i)
        x = x.clone()
        x[0, 3, i % 8] = torch.nan
        return x, y

    is_left_alone(examined(over(holey, holey, model=FillsIn(10))), ID)


def test_missing_labels_under_a_masked_loss_are_left_alone():
    def some_labels(i):
        x, y = digit(i)
        return x, torch.stack([(y / 9 - 0.5) * 3, torch.tensor(torch.nan) if i % 3 else x.mean() * 4])

    is_left_alone(examined(over(some_labels, some_labels, model=small_cnn(2), loss=Masked())), ID)


def test_places_alone():
    stands_any_evidence(ID, findings_of(with_fault("nan-in-items", digits)), numbers=False)
