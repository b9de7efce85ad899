"""callbacks: what cancels, gathers or clips is stated; a run without a step fails."""

import math

import pytest
import torch
from fastai.callback.core import Callback, CancelBackwardException, CancelBatchException, CancelStepException
from fastai.callback.mixup import MixUp
from fastai.callback.progress import CSVLogger
from fastai.callback.tracker import EarlyStoppingCallback, TerminateOnNaNCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import digits

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "callbacks"
NAMES = [
    *("callbacks", "callbacks run", "batches", "optimizer steps", "cancelled by", "gradient kept for the next batch"),
    "gradient after / before callbacks",
]


class NoStep(Callback):
    "Throws every gradient away."

    def before_step(self):
        raise CancelStepException


class NoBackward(Callback):
    def before_backward(self):
        raise CancelBackwardException


class Gathers(Callback):
    "Accumulation of the user's own, one step for `every` batches."

    def __init__(self, every):
        self.every, self.seen = every, 0

    def before_step(self):
        self.seen += 1
        if self.seen % self.every:
            raise CancelBatchException


class ClipsToNothing(Callback):
    def before_step(self):
        torch.nn.utils.clip_grad_norm_(self.learn.model.parameters(), 1e-3)


LOOK_ALIKES = {
    "clipping": (GradientClip(0.01), "gradients cut to"),
    "clipping of one's own": (ClipsToNothing(), "gradients cut to"),
    "accumulation": (GradientAccumulation(64), "3 optimizer steps in 12 batches"),
    "accumulation of one's own": (Gathers(4), "Gathers.before_step ends the batch (9 times)"),
    "mixup": (MixUp(), "3 optimizer steps in 3 batches"),
    "terminate on NaN": (TerminateOnNaNCallback(), "3 optimizer steps in 3 batches"),
    "trackers": (EarlyStoppingCallback(), "all of them only write or judge epochs"),
    "loggers": (CSVLogger(), "all of them only write or judge epochs"),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alike_passes_and_is_stated(name):
    cb, words = LOOK_ALIKES[name]
    status, summary = judged(ID, digits(bs=16, cbs=cb))
    assert status == "pass", summary
    assert words in summary


@pytest.mark.parametrize("cb", [NoStep, NoBackward])
def test_no_step_at_all_fails_and_names_the_callback(cb):
    status, summary = judged(ID, digits(bs=16, cbs=cb()))
    assert status == "fail"
    assert "0 optimizer steps in 64 batches: cancelled by " + cb.__name__ in summary


def test_gathering_without_a_step_is_a_warning():
    status, summary = judged(ID, digits(bs=16, cbs=Gathers(100)))
    assert status == "warn"
    assert "gradients add up" in summary


def test_long_accumulation_is_not_waited_for():
    with pytest.raises(NotApplicable, match="4096 rows make one step"):
        judged(ID, digits(bs=16, cbs=GradientAccumulation(4096)))


def test_learner_is_left_alone():
    learn = digits(bs=16, cbs=GradientClip(0.01))
    before = [p.detach().clone() for p in learn.model.parameters()]
    measured(ID, learn)
    assert all(torch.equal(a, b) for a, b in zip(before, learn.model.parameters()))
    assert learn.opt is None


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    run = [Evidence(name=n, value=["A"]) for n in ("callbacks", "callbacks run")]
    assert judge(EvidenceList([*run, Evidence(name="optimizer steps", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([*run, Evidence(name="optimizer steps", value=0)])).status == "fail"
    assert judge(EvidenceList([*run, Evidence(name="optimizer steps", value=3)])).status == "pass"
