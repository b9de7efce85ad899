"""linear-stacks: layers that act as one are named; bottlenecks, activations of every kind and projections pass."""

import math

import pytest
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits, small_cnn
from torch import nn
from torch.nn import functional as F

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "linear-stacks"
NAMES = ["Linear layers", "nothing between", "nothing between, by design"]


class Functional(nn.Module):
    "Activations as functions, one of them in place."

    def __init__(self, inplace):
        super().__init__()
        self.first, self.second, self.inplace = nn.Linear(64, 32), nn.Linear(32, 10), inplace

    def forward(self, x):
        x = self.first(x.flatten(1))
        return self.second(F.relu_(x) if self.inplace else F.relu(x))


def mlp(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


LOOK_ALIKES = {
    "function": lambda: Functional(False),
    "in-place function": lambda: Functional(True),
    "in-place module": lambda: mlp(nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Linear(32, 10)),
    "low-rank factors": lambda: mlp(nn.Linear(64, 4), nn.Linear(4, 10)),
    "norm between": lambda: mlp(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10)),
    "head on a projection": lambda: nn.Sequential(small_cnn(32), nn.Linear(32, 10)),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alike_passes(name):
    status, summary = judged(ID, digits(bs=16, model=LOOK_ALIKES[name]()))
    assert status == "pass", summary


def test_f16_head_of_three_linear_layers_is_warned_of():
    healthy = mlp(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    assert judged(ID, digits(bs=16, model=healthy)).status == "pass"
    stacked = mlp(nn.Linear(64, 64), nn.Linear(64, 32), nn.Linear(32, 10))
    status, summary = judged(ID, digits(bs=16, model=stacked))
    assert status == "warn"
    assert "2 pairs of 3 Linear layers" in summary
    assert "1 (64 to 64) into 2 (to 32)" in summary


@pytest.mark.parametrize("between", [nn.Dropout(0.5), nn.Identity()])
def test_drop_out_is_no_activation(between):
    assert judged(ID, digits(bs=16, model=mlp(nn.Linear(64, 32), between, nn.Linear(32, 10)))).status == "warn"


def test_one_layer_cannot_stack():
    with pytest.raises(NotApplicable, match="1 Linear"):
        judged(ID, digits(bs=16, model=mlp(nn.Linear(64, 10))))


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="Linear layers", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([Evidence(name="Linear layers", value=2)])).status == "pass"
