"""Weights far from Kaiming's scale are warned of; what PyTorch draws, embeddings and zeros are not."""

import math

import pytest
import torch
from hypothesis import given, settings
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import digits, zero_last_layer
from odd_subjects import text

from diagnose.checks import Evidence, EvidenceList

ID = "weight-scale"


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_weights_far_off_are_warned_of_by_name(factor):
    learn = digits()
    with torch.no_grad():
        learn.model[-1].weight *= factor
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "3.weight" in summary


@pytest.mark.parametrize("build", [digits, zero_last_layer, text])
def test_what_pytorch_draws_passes(build):
    assert judged(ID, build()).status == "pass"


def test_the_scale_is_that_of_kaiming():
    learn = digits()
    for p in learn.model.parameters():
        if p.ndim > 1:
            torch.nn.init.kaiming_normal_(p)
    scales = [e.value for e in measured(ID, learn)]
    assert scales == pytest.approx([1.0] * len(scales), rel=0.15)


def test_nan_does_not_pass():
    assert check_of(ID).judge(EvidenceList([Evidence(name="scale", value=math.nan, where="a")])).status == "warn"


@settings(deadline=None, max_examples=40, database=None)
@given(evidence_of(["scale"]))
def test_judge_stands_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
