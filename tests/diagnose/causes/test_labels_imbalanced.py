"""A rare class that is never answered: named and proven; imbalance that is learned all the same is left alone."""

import pytest
import torch
from learners import digits
from naming import cause_of, examined, fault_of, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import flat_regression
from torch import nn
from watched import digits as by_mlp

from diagnose.faults._items import alter

ID = "labels-imbalanced"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rare_class_that_is_never_answered_is_named(seed):
    proof = is_named(with_fault("rare-class", digits, seed), ID).proof
    right = "right on rare items held out"
    assert proof.before.numbers[right] <= 0.1
    assert proof.after.numbers[right] >= 0.5
    assert proof.after.numbers["right on common items"] >= 0.8


def one_convolution(seed):
    "The least net that finds a rare digit: examined in a sixth of the time that a deeper one takes."
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    return digits(seed, model=nn.Sequential(*layers))


@pytest.mark.parametrize("seed", [0, 1])
def test_heavy_imbalance_that_is_learned_is_left_alone(seed):
    learn = one_convolution(seed)
    opt, lr = learn.opt_func, learn.lr
    fault_of("rare-class").inject(learn)
    learn.opt_func, learn.lr = opt, lr
    diagnosis = examined(learn, seed)
    assert cause_of(ID).suspect(findings_of(diagnosis))
    assert not [c.id for c in diagnosis.causes if c.proven]
    assert diagnosis.verdict != "fail", diagnosis.summary


def test_a_rare_class_that_no_balance_brings_out_is_not_proven():
    draws = torch.rand(2000, generator=torch.Generator().manual_seed(0))

    def at_random(inputs, targets, i):
        return inputs, [targets[0] * 0 + int(draws[i] < 0.04)]

    learn = by_mlp(widths=(64, 32, 2))
    alter(learn, at_random)
    assert ID not in [c.id for c in examined(learn).causes if c.proven]


def test_balanced_labels_and_numbers_are_left_alone():
    for learn in (digits(), flat_regression()):
        diagnosis = examined(learn)
        is_left_alone(diagnosis, ID)
        assert cause_of(ID).suspect(findings_of(diagnosis)) is None


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("rare-class", digits)))
