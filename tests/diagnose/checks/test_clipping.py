"""clipping: a threshold far below every gradient."""

from functools import partial

import pytest
from fastai.callback.training import GradientClip
from fastai.optimizer import SGD
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits

ID = "clipping"
MOMENTUM = partial(SGD, mom=0.9)


@pytest.mark.parametrize("threshold", [0.5, 10.0])
def test_usual_thresholds(threshold):
    assert judged(ID, digits(cbs=GradientClip(threshold), opt_func=MOMENTUM, lr=0.1)).status == "pass"


def test_adam_divides_the_cut_out():
    status, summary = judged(ID, digits(cbs=GradientClip(1e-3)))
    assert status == "pass"
    assert "100% of the gradients are cut" in summary


def test_threshold_far_below_every_gradient():
    status, summary = judged(ID, digits(cbs=GradientClip(1e-5), opt_func=MOMENTUM, lr=0.1))
    assert status == "warn"
    assert "100% of the gradients are cut below 1%" in summary


def test_judge():
    evidence = measured(ID, digits(cbs=GradientClip(1e-5), opt_func=MOMENTUM, lr=0.1))
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
    nan_never_passes(ID, measured(ID, digits()))
