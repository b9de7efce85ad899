"""Inputs that are the same or hardly differ: named and proven; a single item and empty tiles are left alone."""

import torch
from data_subjects import digit, over
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import flat_regression
from torch import nn
from watched import mlp

ID = "inputs-constant"


@in_turn(build=[digits, diabetes])
def test_one_item_for_all_is_named(build, seed):
    assert "same bits" in is_named(with_fault("same-item", build, seed), ID).summary


@in_turn(build=[digits, flat_regression])
def test_differences_beside_a_large_pattern_are_named(build, seed):
    proof = is_named(with_fault("faint-differences", build, seed), ID).proof
    assert "over the rows" in proof.change


def test_blank_items_are_told_and_not_proven():
    def mostly_blank(i):
        x, y = digit(i)
        return (torch.zeros_like(x) if i % 3 else x), y

    diagnosis = examined(over(mostly_blank, mostly_blank, model=mlp(64, 32, 10)))
    assert ID in [c.id for c in diagnosis.causes]
    assert not [c.id for c in diagnosis.causes if c.proven]


def test_some_empty_tiles_are_left_alone():
    def some_blank(i):
        x, y = digit(i)
        return (torch.zeros_like(x), y * 0) if i % 3 == 0 else (x, y)

    is_left_alone(examined(over(some_blank, some_blank)), ID)


def test_one_picture_with_one_target_is_left_alone():
    x, _ = digit(0)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))
    one = lambda i: (noise, x)  # noqa: E731
    diagnosis = examined(over(one, one, model=net, loss=nn.MSELoss()))
    assert not {ID, "labels-constant"} & {c.id for c in diagnosis.causes}


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("same-item", digits)))
    stands_any_evidence(ID, findings_of(with_fault("faint-differences", digits)))
