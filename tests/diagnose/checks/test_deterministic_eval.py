"""deterministic-eval: drop-out that never ends, sampling and state that are meant."""

import pytest
import torch
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits, small_cnn
from torch import nn
from torch.nn import functional as F

ID = "deterministic-eval"


class Wrapped(nn.Module):
    def __init__(self, then):
        super().__init__()
        self.body, self.then = small_cnn(), then

    def forward(self, x):
        return self.then(self, self.body(x))


def endless_dropout(module, x):
    return F.dropout(x, 0.5)


def sampled(module, x):
    return x + 0.1 * torch.randn_like(x)


def carried(module, x):
    module.hidden = getattr(module, "hidden", 0) + x.detach().mean()
    return x + module.hidden


def test_dropout_without_its_mode():
    status, summary = judged(ID, digits(model=Wrapped(endless_dropout)))
    assert status == "warn"
    assert "dropout" in summary


def test_dropout_with_its_mode():
    right = Wrapped(lambda module, x: F.dropout(x, 0.5, module.training))
    assert judged(ID, digits(model=right)).status == "pass"


@pytest.mark.parametrize(("then", "word"), [(sampled, "random"), (carried, "state")])
def test_sampling_and_state_pass_and_are_told(then, word):
    status, summary = judged(ID, digits(model=Wrapped(then)))
    assert status == "pass"
    assert word in summary


def test_judge():
    evidence = measured(ID, digits(model=Wrapped(endless_dropout)))
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
