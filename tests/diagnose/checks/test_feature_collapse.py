"""feature-collapse: an encoder that gives one vector for every input."""

import math

import pytest
import torch
from learners import HEALTHY, digits
from naming import cause_of, fault_of
from odd_subjects import character_model
from torch import nn
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.causes import Findings
from diagnose.checks.feature_collapse import FeatureCollapse, effective_rank
from diagnose.isolate import untouched
from diagnose.lab import Lab
from diagnose.subject import from_task

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


def test_rows_of_tokens_that_are_all_one_vector():
    learn = character_model()
    before = measured(CHECK, learn)
    assert 0.5 < before.get("spread over rows", "inputs") <= 1
    assert CHECK.judge(before).status == "pass"
    fault_of("features-drowned").inject(learn)
    found = measured(CHECK, learn)
    assert CHECK.judge(found).status == "warn"
    assert cause_of("representation-collapse").suspect(Findings({"feature-collapse": found}))


def test_what_the_last_layer_is_given_where_the_features_of_the_task_are_apart():
    subject = from_task("unmix", {}, seed=0, device="cpu")

    def found():
        with untouched(subject.learner):
            return CHECK.measure(Lab(subject, 0))

    assert found().get("features of") == "the task's features"
    fault_of("features-drowned").inject(subject.learner)
    assert found().get("features of").startswith("the input of head")
    assert CHECK.judge(found()).status == "warn"


def test_effective_rank():
    assert effective_rank(torch.eye(5)) == pytest.approx(5, abs=1e-3)
    assert effective_rank(torch.ones(4, 6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.zeros(4, 6)) == 0
    assert math.isnan(effective_rank(torch.full((2, 2), math.nan)))


def test_judge():
    evidence = measured(CHECK, digits())
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
