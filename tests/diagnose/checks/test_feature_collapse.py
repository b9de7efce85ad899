"""feature-collapse: an encoder that gives one vector for every input."""

import math

import pytest
import torch
from judging import check_of, judge_never_raises, judged, measured, nan_never_passes
from learners import digits
from naming import cause_of, fault_of
from odd_subjects import character_model
from torch import nn

from diagnose.causes import Findings
from diagnose.checks.feature_collapse import effective_rank
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_task

ID = "feature-collapse"


class Collapsed(nn.Module):
    def __init__(self, kept):
        super().__init__()
        self.encoder, self.head, self.kept = nn.Linear(64, 32), nn.Linear(32, 10), kept

    def forward(self, x):
        return self.head(1 + self.kept * self.encoder(x.flatten(1)))


def test_collapsed_encoder():
    status, summary = judged(ID, digits(model=Collapsed(1e-6)))
    assert status == "warn"
    assert "nearly one vector" in summary
    assert judged(ID, digits(model=Collapsed(1.0))).status == "pass"


def test_rows_of_tokens_that_are_all_one_vector():
    learn = character_model()
    before = measured(ID, learn)
    assert 0.5 < before.get("spread over rows", "inputs") <= 1
    assert check_of(ID).judge(before).status == "pass"
    fault_of("features-drowned").inject(learn)
    found = measured(ID, learn)
    assert check_of(ID).judge(found).status == "warn"
    assert cause_of("representation-collapse").suspect(Findings({"feature-collapse": found}))


def test_what_the_last_layer_is_given_where_the_features_of_the_task_are_apart():
    subject = from_task("unmix", {}, seed=0, device="cpu")

    def found():
        with untouched(subject.learner):
            return check_of(ID).measure(Lab(subject, 0))

    assert found().get("features of") == "the task's features"
    fault_of("features-drowned").inject(subject.learner)
    assert found().get("features of").startswith("the input of head")
    assert check_of(ID).judge(found()).status == "warn"


def test_effective_rank():
    assert effective_rank(torch.eye(5)) == pytest.approx(5, abs=1e-3)
    assert effective_rank(torch.ones(4, 6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.zeros(4, 6)) == 0
    assert math.isnan(effective_rank(torch.full((2, 2), math.nan)))


def test_judge():
    evidence = measured(ID, digits())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
