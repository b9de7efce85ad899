"""shape-trace: the layer that gets the wrong shape is named, with the shapes."""

import math

import pytest
import torch
from fastai.layers import AdaptiveConcatPool2d
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY, digits
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "shape-trace"
NAMES = ["input", "output", "layers run", "raised", "raised in", "first wrong input", "it takes", "shape came from"]


def body():
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())


def head():
    return nn.Sequential(AdaptiveConcatPool2d(), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 10))


def pooled_body():
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", ["digits", "diabetes", "declared_freeze"])
def test_healthy_subject_passes(name):
    status, summary = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "layers run" in summary


def test_f12_pooling_twice_is_named_with_the_shapes():
    assert judged(ID, digits(bs=16, model=nn.Sequential(body(), head()))).status == "pass"
    status, summary = judged(ID, digits(bs=16, model=nn.Sequential(pooled_body(), head())))
    assert status == "fail"
    assert "(AdaptiveMaxPool2d): 16×16, it takes rank 3 or 4" in summary
    assert "the shape came from 0.2 (Flatten) (16×16×1×1 -> 16×16)" in summary


FAULTY = {
    "channels": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), "0 (Conv2d): 16×1×8×8, it takes 3 channels"),
    "features": (nn.Sequential(nn.Flatten(), nn.Linear(60, 10)), "1 (Linear): 16×64, it takes a last dimension of 60"),
    "norm": (nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm1d(8)), "1 (BatchNorm1d): 16×8×6×6, it takes rank 2 or 3"),
    "features of a norm": (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(4)),
        "1 (BatchNorm2d): 16×8×6×6, it takes 4 features in dimension 1",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_wrong_input_is_named(name):
    model, words = FAULTY[name]
    status, summary = judged(ID, digits(bs=16, model=model))
    assert status == "fail"
    assert words in summary


class Broken(nn.Module):
    "Raises in its own code, after a layer that works."

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)

    def forward(self, x):
        return self.first(x) @ torch.zeros(3, 3)


def test_error_outside_any_layer_is_told():
    status, summary = judged(ID, digits(bs=16, model=Broken()))
    assert status == "fail"
    assert "raised in Broken: RuntimeError" in summary
    evidence = measured(ID, digits(bs=16, model=Broken()))
    assert evidence.get("shapes", "first") == "16×1×8×8 -> 16×1×8×8"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="layers run", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([Evidence(name="layers run", value=3)])).status == "pass"
    assert judge(EvidenceList([Evidence(name="raised", value="RuntimeError")])).status == "fail"
