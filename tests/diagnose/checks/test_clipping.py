"""clipping: a threshold far below every gradient."""

from functools import partial

import pytest
from fastai.callback.training import GradientClip
from fastai.optimizer import SGD
from learners import HEALTHY, digits
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.clipping import Clipping

CHECK = Clipping()
MOMENTUM = partial(SGD, mom=0.9)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


@pytest.mark.parametrize("threshold", [0.5, 10.0])
def test_usual_thresholds(threshold):
    assert judged(CHECK, digits(cbs=GradientClip(threshold), opt_func=MOMENTUM, lr=0.1)).status == "pass"


def test_adam_divides_the_cut_out():
    status, summary = judged(CHECK, digits(cbs=GradientClip(1e-3)))
    assert status == "pass"
    assert "100% of the gradients are cut" in summary


def test_threshold_far_below_every_gradient():
    status, summary = judged(CHECK, digits(cbs=GradientClip(1e-5), opt_func=MOMENTUM, lr=0.1))
    assert status == "warn"
    assert "100% of the gradients are cut below 1%" in summary


def test_judge():
    evidence = measured(CHECK, digits(cbs=GradientClip(1e-5), opt_func=MOMENTUM, lr=0.1))
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
    nan_never_passes(CHECK, measured(CHECK, digits()))
