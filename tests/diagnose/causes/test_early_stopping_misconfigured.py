"""Trackers on the wrong side: named and proven; right sides, and sides known by a name only, are left alone."""

import numpy as np
import pytest
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.metrics import AccumMetric, accuracy, error_rate, mse
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "early-stopping-misconfigured"


@in_turn(build=[digits, diabetes])
def test_patience_on_the_wrong_side_is_named(build, seed):
    first = is_named(with_fault("patience-on-the-wrong-side", build, seed), ID)
    assert first.proof.before.numbers["epochs counted as better"] == 0
    assert first.proof.after.numbers["epochs counted as better"] == 9


def test_the_best_model_by_the_largest_error_is_named():
    learn = diabetes(metrics=mse, cbs=SaveModelCallback(monitor="mse"))
    assert "comp=np.less" in is_named(examined(learn), ID).fix.code


def test_a_name_that_is_never_recorded_is_named():
    learn = digits(metrics=error_rate, cbs=EarlyStoppingCallback(monitor="accuracy"))
    assert "no such name" in is_named(examined(learn), ID).summary


@pytest.mark.parametrize(
    "cb",
    [
        lambda: EarlyStoppingCallback(monitor="accuracy", comp=np.greater),
        lambda: SaveModelCallback(monitor="valid_loss"),
        lambda: ReduceLROnPlateau(monitor="valid_loss"),
    ],
)
def test_right_sides_are_left_alone(cb):
    is_left_alone(examined(digits(metrics=accuracy, cbs=cb())), ID)


def test_a_side_known_by_its_name_only_is_not_proven():
    def f1(preds, targets):
        raise RuntimeError("needs a server")

    learn = digits(metrics=AccumMetric(f1, name="f1"), cbs=EarlyStoppingCallback(monitor="f1", comp=np.less))
    diagnosis = examined(learn)
    assert ID in [c.id for c in diagnosis.causes]
    assert diagnosis.verdict != "fail", diagnosis.summary


def test_evidence_alone():
    stands_any_evidence(ID, findings_of(with_fault("patience-on-the-wrong-side", digits)), numbers=False)
