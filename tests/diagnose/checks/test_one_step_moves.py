"""one-step-moves: F18, freezes that do not freeze."""

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.training import BnFreeze, GradientAccumulation
from learners import HEALTHY, diabetes, digits, small_cnn
from torch import nn
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.one_step_moves import OneStepMoves

CHECK = OneStepMoves()


class PutsBack(Callback):
    "Undoes every step of the first layer."

    def before_step(self):
        self.kept = [p.detach().clone() for p in self.learn.model[0].parameters()]

    def after_step(self):
        with torch.no_grad():
            for p, was in zip(self.learn.model[0].parameters(), self.kept):
                p.copy_(was)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


def frozen_body(**kwargs):
    model = small_cnn()
    model[0].requires_grad_(False)
    return digits(model=model, **kwargs)


def test_frozen_body_with_its_statistics_kept():
    status, summary = judged(CHECK, frozen_body(cbs=BnFreeze()))
    assert status == "pass"
    assert "none of 4 frozen ones did" in summary


def test_accumulated_gradients_step_later():
    assert judged(CHECK, digits(cbs=GradientAccumulation(128))).status == "pass"


def test_f18_requires_grad_set_on_a_module():
    learn = digits()
    learn.model[0].requires_grad = False
    status, summary = judged(CHECK, learn)
    assert status == "warn"
    assert "12 parameter tensors train" in summary
    assert "on 0 " in summary


def test_f18_running_statistics_of_a_frozen_body_drift():
    status, summary = judged(CHECK, frozen_body())
    assert status == "warn"
    assert "0.1.running_mean" in summary


def test_parameter_that_the_optimizer_does_not_move():
    status, summary = judged(CHECK, diabetes(cbs=PutsBack()))
    assert status == "warn"
    assert "2 of 6" in summary


def test_unused_buffer_of_a_model_without_norms():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_buffer("mean", torch.zeros(3))
    assert judged(CHECK, digits(model=model)).status == "pass"


def test_judge():
    evidence = measured(CHECK, digits())
    judge_never_raises(CHECK, evidence)
    poisoned = type(evidence)(
        e.model_copy(update={"value": float("nan")}) if e.name == "trainable that moved" else e for e in evidence
    )
    assert CHECK.judge(poisoned).status != "pass"
    nan_never_passes(CHECK, poisoned)
