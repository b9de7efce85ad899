"""norm-axes: slots taken for features, means over one number and shared norms are named."""

import math

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "norm-axes"
NAMES = [
    *("norm layers", "slots taken for features", "mean over one number", "one norm in several places"),
    "called several times in one place",
]


class Slots(nn.Module):
    "Every line of a digit is a slot of 8 features: (B, 8, F) through Linear layers."

    def __init__(self, norm, width=24):
        super().__init__()
        self.fc1, self.norm, self.fc2, self.out = nn.Linear(8, width), norm, nn.Linear(width, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.out(torch.relu(self.fc2(torch.relu(self.norm(self.fc1(x[:, 0]))))).mean(1))


class ChannelsFirst(nn.Module):
    "A one-dimensional conv net, and a transposed norm between Linear layers."

    def __init__(self):
        super().__init__()
        self.conv, self.norm1, self.fc = nn.Conv1d(8, 24, 3, padding=1), nn.BatchNorm1d(24), nn.Linear(24, 16)
        self.norm2, self.out = nn.BatchNorm1d(16), nn.Linear(16, 10)

    def forward(self, x):
        z = torch.relu(self.norm1(self.conv(x[:, 0])))
        z = self.fc(z.transpose(1, 2))
        return self.out(torch.relu(self.norm2(z.transpose(1, 2)).transpose(1, 2)).mean(1))


class Twice(nn.Module):
    "One norm after two conv layers, or one for each; the whole called once or twice."

    def __init__(self, shared):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.norm2 = self.norm1 if shared else nn.BatchNorm2d(8)
        self.out = nn.Linear(8, 10)

    def features(self, x):
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))).mean((2, 3))

    def forward(self, x):
        return self.out(self.features(x) - self.features(x.flip(-1)))


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.mark.parametrize("model", [ChannelsFirst(), Slots(nn.LayerNorm(24)), Twice(shared=False)])
def test_look_alike_passes(model):
    status, summary = judged(ID, digits(bs=16, model=model))
    assert status == "pass", summary


def test_f8_batch_norm_of_slots_is_warned_of():
    status, summary = judged(ID, digits(bs=16, model=Slots(nn.BatchNorm1d(8))))
    assert status == "warn"
    assert "norm, 8 features of 16×8×24" in summary


def test_f9_encoder_that_is_called_for_every_input_passes():
    assert "2 of them run several times" in judged(ID, digits(bs=16, model=Twice(shared=False))).summary


def test_norm_in_two_places_is_warned_of():
    status, summary = judged(ID, digits(bs=16, model=Twice(shared=True)))
    assert status == "warn"
    assert "norm1 (fed by conv1 and conv2)" in summary


@pytest.mark.parametrize(
    "model",
    [
        flat(nn.Linear(64, 1), nn.LayerNorm(1), nn.Linear(1, 10)),
        nn.Sequential(nn.Conv2d(1, 8, 8), nn.GroupNorm(8, 8), nn.Flatten(), nn.Linear(8, 10)),
    ],
)
def test_mean_of_one_number_is_warned_of(model):
    status, summary = judged(ID, digits(bs=16, model=model))
    assert status == "warn"
    assert "the mean of 1 number" in summary


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="norm layers", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([Evidence(name="norm layers", value=2)])).status == "pass"
