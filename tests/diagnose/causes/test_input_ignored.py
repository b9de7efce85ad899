"""A forward pass that does not use its argument is named; saturated units and an unused input are not."""

import pytest
import torch
from fastai.losses import CrossEntropyLossFlat
from learners import diabetes, digits, small_cnn
from naming import (
    CauseTests,
    cause_of,
    examined,
    fault_of,
)
from odd_subjects import digit_items, learner, text
from torch import nn

from diagnose.causes import Suspicion
from diagnose.lab import Lab
from diagnose.subject import from_learner

ID = "input-ignored"


class IgnoresTheIndex(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x, index):
        return self.net(x)


def one_unused(seed):
    items = [(x, i, y) for i, (x, y) in enumerate(digit_items())]
    return learner(items, IgnoresTheIndex(), CrossEntropyLossFlat(), n_inp=2)


NAMED = [("forward-reads-a-global", digits), ("forward-blanks-its-input", diabetes)]
HEALTHY = {"one of two inputs unused": one_unused, "text": text}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY


@pytest.mark.parametrize("fault", ["units-saturated", "norm-over-one"])
def test_an_output_that_is_constant_for_another_reason_refutes_it(fault):
    learn = digits()
    fault_of(fault).inject(learn)
    found = cause_of(ID).settle(Lab(from_learner(learn)), Suspicion(1.0, "the output does not move"))
    assert (found.proven, found.refuted) == (False, True)


class Between(nn.Module):
    """A body and a head, and whatever stands between the two."""

    def __init__(self, between, bias=0.0, wider=False):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        self.between, self.head = between, nn.Linear(128 if wider else 64, 10)
        nn.init.constant_(self.body[3].bias, bias)

    def forward(self, x):
        return self.head(self.between(self.body(x)))


LOSING = {
    "clamp": lambda z: z.relu().clamp(max=0),
    "times zero": lambda z: z * 0,
    "comparison": lambda z: (z > -1e6).float(),
}


@pytest.mark.parametrize("between", LOSING.values(), ids=LOSING)
def test_what_a_forward_loses_between_two_layers_is_named_with_the_place(between):
    found = examined(digits(model=Between(between)))
    assert found.verdict == "fail"
    assert found.cause.id == ID
    assert found.cause.where == ["between body.3 and head"]
    proof = found.cause.proof
    assert proof.before.numbers == {"the output moves by": 0}
    assert proof.after.numbers["the output moves by"] > 0.01
    assert "body.3" in found.check("inputs-matter").summary


def test_the_place_is_named_where_the_next_layer_takes_something_else():
    found = examined(digits(model=Between(lambda z: (z * 0).repeat(1, 2), wider=True)))
    assert found.cause.id == ID
    assert found.cause.where == ["between body.3 and head"]
    assert "in a sound model" in found.cause.proof.after.summary


@pytest.mark.parametrize(
    ("function", "bias"), [(torch.relu, -30.0), (torch.sigmoid, -200.0)], ids=["dead", "saturated"]
)
def test_a_function_that_is_given_what_it_cannot_tell_apart_is_not_blamed(function, bias):
    found = examined(digits(model=Between(function, bias)), only=["inputs-matter"])
    assert "is lost between body.3 and head" in found.check("inputs-matter").summary
    assert found.cause is None
    told = next(c for c in found.causes if c.id == ID)
    assert not told.proven
    assert not told.refuted
    assert "the range is what is lost between body.3 and head" in told.proof.after.summary
    assert "body.3" in told.fix.text


def test_what_follows_an_activation_is_judged_by_what_that_can_put_out():
    model = Between(lambda z: z.clamp(max=0))
    model.body.append(nn.ReLU())
    found = examined(digits(model=model))
    assert found.cause.id == ID
    assert found.cause.where == ["between body.4 and head"]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_change_lost_inside_a_layer_is_told_by_the_check_and_not_claimed(inplace):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Hardtanh(5.0, 6.0, inplace=inplace), nn.Linear(64, 10))
    found = examined(digits(model=model), only=["inputs-matter"])
    assert "gets as far as 1, and is lost in 2" in found.check("inputs-matter").summary
    assert found.cause is None or found.cause.id != ID
