"""Little projects as people write them, one for each thing that really went wrong: the defect is named, the mended one
is not failed, and the gate keeps the first from training and lets the second train. They are built as
`diagnose run --learner FILE:build` builds them.
"""

from pathlib import Path

import pytest
from naming import examined

from diagnose import gate
from diagnose.errors import SubjectError
from diagnose.examination import examine
from diagnose.preflight import PreflightGate
from diagnose.report import write_run
from diagnose.subject import from_spec

HERE = Path(__file__).parent
NAMED = {
    "f01_rows_mixed": "batch-mixing",
    "f02_dot_product_saturates": "activation-saturated",
    "f03_forward_reads_a_global": "input-ignored",
    "f04_last_activation_twice": "loss-double-activation",
    "f07_read_in_eval_mode": "batch-too-small",
    "f10_classes_renumbered": "labels-misaligned-between-splits",
    "f11_binary_loss_on_classes": "loss-wrong-for-task",
    "f17_only_positives": "labels-constant",
    "f18_freeze_without_effect": "frozen-still-training",
    "f20_workers_alike": "loader-repeats-random-numbers",
    "f22_rate_far_off": "lr-too-low",
    "f27_encoder_not_loaded": "weights-not-loaded",
}
ALL = [*NAMED, "f05_subset_redrawn", "f12_pooled_twice"]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    "Projects import what lies beside them, as scripts do."
    monkeypatch.syspath_prepend(str(HERE))


def subject(name, function):
    return from_spec(f"{HERE / name}.py:{function}", seed=0, device="cpu")


def steps_behind_the_gate(name, function, diagnosis, folder):
    "Training steps of one epoch that only begins if the run that `diagnosis` leaves in `folder` has a pass."
    found = subject(name, function)
    signed = gate.issue(diagnosis, found.identity())
    if signed is not None:
        diagnosis.files[gate.PASS] = signed
    write_run(diagnosis, folder)
    learn = subject(name, function).learner
    learn.fit(1, cbs=PreflightGate(folder, allow_warn=True, modules=found.modules))
    return learn.train_iter


def test_every_project_is_examined():
    assert {p.stem for p in HERE.glob("f*.py")} == set(ALL)


@pytest.mark.parametrize("name", NAMED)
def test_the_defect_is_named_first_and_proven_and_the_gate_refuses_to_train_it(name, tmp_path):
    diagnosis = examined(subject(name, "build"))
    assert diagnosis.causes, diagnosis.summary
    first = diagnosis.causes[0]
    assert (first.id, first.proven, diagnosis.verdict) == (NAMED[name], True, "fail"), diagnosis.summary
    with pytest.raises(gate.GateRefused, match="the verdict was fail"):
        steps_behind_the_gate(name, "build", diagnosis, tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_the_mended_one_is_not_failed_and_trains(name, tmp_path):
    diagnosis = examined(subject(name, "mended"))
    assert diagnosis.verdict != "fail", diagnosis.summary
    assert not [c.id for c in diagnosis.causes if c.proven]
    assert steps_behind_the_gate(name, "mended", diagnosis, tmp_path) > 0


def test_f05_a_subset_that_is_redrawn_is_a_doubt():
    "A warning: a stream of fresh draws looks alike, and is a fine data set."
    diagnosis = examined(subject("f05_subset_redrawn", "build"))
    assert diagnosis.verdict == "warn"
    assert diagnosis.causes[0].id == "items-nondeterministic"
    assert "items-repeatable" in diagnosis.summary


def test_f12_what_raises_is_explained_with_the_shapes():
    "No cause of the vocabulary: its own code raises, and the check says where and why."
    with pytest.raises(SubjectError) as raised:
        examine(subject("f12_pooled_twice", "build"), budget=None)
    diagnosis = raised.value.diagnosis
    assert diagnosis.verdict == "fail"
    assert diagnosis.causes == []
    assert [c.id for c in diagnosis.checks if c.status == "fail"] == ["shape-trace"]
    assert "32×128, it takes rank 3 or 4; the shape came from 1.pool" in diagnosis.summary
