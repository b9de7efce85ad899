"""softmax-axes: the batch axis and axes of one number are named; class, attention and pair softmaxes pass."""

import math

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits, small_cnn
from torch import nn
from torch.nn import functional as F

from diagnose.checks import Evidence, EvidenceList

ID = "softmax-axes"
NAMES = ["softmax calls", "over the batch", "output over one number", "over one number"]


class Ends(nn.Module):
    "A small conv net whose scores go through `then`."

    def __init__(self, then, outputs=10):
        super().__init__()
        self.body, self.then = small_cnn(outputs), then

    def forward(self, x):
        return self.then(self.body(x))


class Attends(nn.Module):
    "Attention over the lines of a digit, of which there are 8, or one."

    def __init__(self, lines=8):
        super().__init__()
        self.key, self.value, self.out, self.lines = nn.Linear(8, 1), nn.Linear(8, 16), nn.Linear(16, 10), lines

    def forward(self, x):
        x = x[:, 0, : self.lines]
        return self.out((F.softmax(self.key(x), dim=1) * self.value(x)).sum(1))


class Mixes(nn.Module):
    "Learnable weights of 16 branches, as many as the batch has rows."

    def __init__(self):
        super().__init__()
        self.weights, self.out = nn.Parameter(torch.zeros(16, 1)), nn.Linear(64, 10)

    def forward(self, x):
        return self.out(x.flatten(1) * self.weights.softmax(0).sum())


def pairs(z):
    return (z @ z.T).log_softmax(0)


LOOK_ALIKES = {
    "classes": Ends(lambda z: F.log_softmax(z, dim=-1)),
    "attention": Attends(),
    "one item": Attends(lines=1),
    "learnable weights": Mixes(),
    "pairs of rows": Ends(pairs),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alike_passes(name):
    status, summary = judged(ID, digits(bs=16, loss_func=nn.NLLLoss(), model=LOOK_ALIKES[name]))
    assert status == "pass", summary


@pytest.mark.parametrize(
    "then",
    [
        lambda z: F.log_softmax(z, dim=0),
        lambda z: torch.softmax(z, 0).log(),
        lambda z: z.softmax(-2).log(),
        nn.LogSoftmax(0),
    ],
)
def test_softmax_over_the_batch_fails(then):
    status, summary = judged(ID, digits(bs=16, loss_func=nn.NLLLoss(), model=Ends(then)))
    assert status == "fail"
    assert "axis 0 of 16×10" in summary


def test_output_over_one_number_fails():
    status, summary = judged(ID, digits(bs=16, loss_func=lambda out, y: out.mean(), model=Ends(nn.Softmax(1), 1)))
    assert (status, summary) == ("fail", "the output is a softmax over 1 number, which is always 1: axis 1 of 16×1")


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="softmax calls", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([Evidence(name="softmax calls", value=0)])).status == "pass"
