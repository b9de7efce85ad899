"""Seconds of an epoch, put together from the other measurements."""

import pytest
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY
from odd_subjects import ODD

from diagnose import runtime
from diagnose.checks.run_estimate import epoch_of
from diagnose.runtime import LoaderRate, StepTimes

ID = "run-estimate"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(runtime, "SETTING_SECONDS", 0.1)
    monkeypatch.setattr(runtime, "WORKERS", (0, 1))
    monkeypatch.setattr(runtime, "LARGEST", 64)


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_healthy_subjects_pass(name):
    status, sentence = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "an epoch is " in sentence
    assert "workers about" in sentence


@pytest.mark.parametrize("name", ["list_of_batches", "graph_batches", "fixed_batch_size"])
def test_what_only_some_measurements_apply_to(name):
    evidence = measured(ID, ODD[name]())
    assert evidence.get("seconds per epoch", "as configured") > 0


def test_workers_read_beside_the_computation():
    times = StepTimes(data=0.5, forward=0.1, backward=0.2, step=0.1, first=0.5, steps=20, rows=64)
    alone = LoaderRate(0, False, first=0.5, batch=0.5, rows=640, batches=10)
    beside = LoaderRate(2, False, first=1.0, batch=0.25, rows=640, batches=10)
    assert epoch_of(alone, times, 100) == pytest.approx(0.5 + 100 * 0.9)
    assert epoch_of(beside, times, 100) == pytest.approx(1.0 + 100 * 0.4)


@given(evidence_of(["steps in an epoch", "seconds per epoch", "recommended workers", "recommended batch size"]))
def test_judge_takes_anything(evidence):
    assert is_judgement(check_of(ID).judge(evidence))
