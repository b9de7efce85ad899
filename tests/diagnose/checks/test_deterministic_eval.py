"""deterministic-eval: drop-out that never ends, sampling and state that are meant."""

import pytest
import torch
from learners import HEALTHY, digits, small_cnn
from torch import nn
from torch.nn import functional as F
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.deterministic_eval import DeterministicEval

CHECK = DeterministicEval()


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


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


def test_dropout_without_its_mode():
    status, summary = judged(CHECK, digits(model=Wrapped(endless_dropout)))
    assert status == "warn"
    assert "dropout" in summary


def test_dropout_with_its_mode():
    right = Wrapped(lambda module, x: F.dropout(x, 0.5, module.training))
    assert judged(CHECK, digits(model=right)).status == "pass"


@pytest.mark.parametrize(("then", "word"), [(sampled, "random"), (carried, "state")])
def test_sampling_and_state_pass_and_are_told(then, word):
    status, summary = judged(CHECK, digits(model=Wrapped(then)))
    assert status == "pass"
    assert word in summary


def test_judge():
    evidence = measured(CHECK, digits(model=Wrapped(endless_dropout)))
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
