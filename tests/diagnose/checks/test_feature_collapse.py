"""feature-collapse: an encoder that gives one vector for every input."""

import math

import pytest
import torch
from learners import HEALTHY, digits
from torch import nn
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.feature_collapse import FeatureCollapse, effective_rank

CHECK = FeatureCollapse()


class Collapsed(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.encoder, self.head, self.kept = nn.Linear(64, 32), nn.Linear(32, 10), kept

    def forward(self, x):
        return self.head(1 + self.kept * self.encoder(x.flatten(1)))


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


def test_collapsed_encoder():
    status, summary = judged(CHECK, digits(model=Collapsed(1e-6)))
    assert status == "warn"
    assert "nearly one vector" in summary
    assert judged(CHECK, digits(model=Collapsed(1.0))).status == "pass"


def test_effective_rank():
    assert effective_rank(torch.eye(5)) == pytest.approx(5, abs=1e-3)
    assert effective_rank(torch.ones(4, 6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.zeros(4, 6)) == 0
    assert math.isnan(effective_rank(torch.full((2, 2), math.nan)))


def test_judge():
    evidence = measured(CHECK, digits())
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
