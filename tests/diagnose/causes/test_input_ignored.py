"""A forward pass that does not use its argument is named; saturated units and an unused input are not."""

import pytest
from fastai.losses import CrossEntropyLossFlat
from learners import diabetes, digits, small_cnn
from naming import (
    CauseTests,
    cause_of,
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
