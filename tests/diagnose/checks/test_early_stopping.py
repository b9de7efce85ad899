"""early-stopping: the side on which a metric is better is measured, and compared with the side that is waited for."""

import math

import numpy as np
import pytest
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.metrics import F1Score, accuracy, error_rate, mse
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import diabetes, digits, probabilities

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "early-stopping"
NAMES = [
    *("recorded", "known to the recorder", "waits for", "better is", "told", "metric of the best outputs"),
    "metric of random outputs",
]


def odd_accuracy(out, y):
    return ((out > 0.5) == y.bool()).float().mean()


def surprise(out, y):
    "A metric whose name says nothing."
    return (out.argmax(1) != y).float().mean()


def cannot(out, y):
    "A metric of a name that says something, which cannot be computed on one batch."
    raise ValueError("not on one batch")


def total_losses(out, y):
    raise ValueError("not on one batch")


HEALTHY_TRACKERS = {
    "accuracy": lambda: digits(cbs=EarlyStoppingCallback("accuracy")),
    "valid_loss": lambda: digits(cbs=[EarlyStoppingCallback(patience=3), ReduceLROnPlateau()]),
    "error_rate": lambda: digits(metrics=error_rate, cbs=SaveModelCallback("error_rate")),
    "f1": lambda: digits(metrics=F1Score(average="macro"), cbs=EarlyStoppingCallback("f1_score")),
    "mse": lambda: diabetes(metrics=mse, cbs=EarlyStoppingCallback("mse", comp=np.less)),
    "a name that says nothing": lambda: digits(metrics=surprise, cbs=EarlyStoppingCallback("surprise", comp=np.less)),
    "cannot be told": lambda: digits(metrics=cannot, cbs=EarlyStoppingCallback("cannot")),
    "a lambda": lambda: digits(cbs=EarlyStoppingCallback("accuracy", comp=lambda a, b: a > b)),
}


@pytest.mark.parametrize("name", HEALTHY_TRACKERS)
def test_healthy_tracker_passes(name):
    status, summary = judged(ID, HEALTHY_TRACKERS[name]())
    assert status == "pass", summary


def test_probabilities_are_measured_too():
    learn = probabilities()
    learn.metrics = odd_accuracy
    learn.add_cb(EarlyStoppingCallback("odd_accuracy"))
    assert measured(ID, learn).get("better is") == "higher"
    assert judged(ID, learn).status == "pass"


@pytest.mark.parametrize("tracker", [EarlyStoppingCallback, SaveModelCallback, ReduceLROnPlateau])
def test_f19_accuracy_that_should_fall_fails(tracker):
    status, summary = judged(ID, digits(cbs=tracker("accuracy", comp=np.less)))
    assert status == "fail"
    assert f"{tracker.__name__} on accuracy waits for lower values, higher is better (best outputs 1" in summary
    assert judged(ID, digits(cbs=tracker("accuracy", comp=np.greater))).status == "pass"


FAULTY = {
    "loss that should rise": (
        lambda: digits(cbs=EarlyStoppingCallback("valid_loss", comp=np.greater)),
        "waits for higher",
    ),
    "fastai's default for mse": (lambda: diabetes(metrics=mse, cbs=EarlyStoppingCallback("mse")), "lower is better"),
    "unknown name": (lambda: digits(cbs=EarlyStoppingCallback("acc")), "only train_loss, valid_loss, accuracy"),
    "name that says nothing": (
        lambda: digits(metrics=surprise, cbs=EarlyStoppingCallback("surprise")),
        "waits for higher values, lower is better",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_wrong_side_fails(name):
    build, words = FAULTY[name]
    status, summary = judged(ID, build())
    assert status == "fail"
    assert words in summary


def test_side_by_name_alone_is_a_warning():
    learn = digits(metrics=total_losses, cbs=EarlyStoppingCallback("total_losses", comp=np.greater))
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "going by the name" in summary


def test_nothing_watched_is_said():
    with pytest.raises(NotApplicable, match="watches a metric"):
        judged(ID, digits(metrics=accuracy))


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    evidence = [Evidence(name=n, value=v, where="a") for n, v in (("waits for", "lower"), ("better is", "higher"))]
    assert judge(EvidenceList(evidence)).status == "warn"
    assert judge(EvidenceList([*evidence, Evidence(name="told", value="measured", where="a")])).status == "fail"
    assert judge(EvidenceList([Evidence(name="waits for", value=math.nan, where="a")])).status == "pass"
