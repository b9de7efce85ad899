"""Whole examinations of faulty subjects: the injected cause stands first, and is proven.

One fault for each of the commonest causes; every other fault is named in the tests of its cause, with the checks that
matter there, and by `diagnose bench` in whole examinations.
"""

import pytest
from learners import digits

from diagnose import registry
from diagnose.errors import NotApplicable, SubjectError
from diagnose.examination import examine
from diagnose.faults import Fault
from diagnose.subject import from_learner, from_task

FAULTS = registry.load_all("diagnose.faults", Fault)


def is_named(subject, fault, seed):
    try:
        fault.inject(subject.learner)
    except NotApplicable as e:
        pytest.skip(f"not a fault of this subject: {e}")
    raised = False
    try:
        diagnosis = examine(subject, seed=seed, budget=None)
    except SubjectError as e:  # its own code raises on the first batch: what was found by then stands in the report
        diagnosis, raised = e.diagnosis, True
    assert diagnosis.causes, diagnosis.summary
    first = diagnosis.causes[0]
    if raised:
        assert first.id == fault.cause
        return
    assert (first.id, first.proven) == (fault.cause, True), [(c.id, c.proven, c.summary) for c in diagnosis.causes]
    assert diagnosis.verdict == "fail"
    assert first.score >= 0.9
    assert fault.cause in diagnosis.summary
    assert first.fix.text
    assert first.proof
    if first.proof.kind == "trial":
        assert not first.proof.before.learned >= 0.8
        assert first.proof.after.learned >= 0.8


COMMONEST = [
    *("activation-twice", "detached-encoder", "head-replaced", "loss-summed", "lr-too-high", "lr-too-low"),
    *("target-not-reshaped", "weights-constant", "weights-frozen", "wrong-view"),
]


@pytest.mark.parametrize("id", COMMONEST)
def test_fault_in_a_digits_classifier_is_named_first_and_proven(id):
    is_named(from_learner(digits(0)), FAULTS[id], 0)


UNMIX = [
    *((id, "classification") for id in COMMONEST),
    *((id, "regression") for id in ("activation-twice", "lr-too-high", "weights-frozen", "wrong-view")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("id", "target"), UNMIX)
def test_fault_in_unmix_is_named_first_and_proven(id, target):
    is_named(from_task("unmix", {"target": target}, seed=0, device="cpu"), FAULTS[id], 0)


def test_every_fault_names_a_cause_that_exists():
    causes = {e.id for e in registry.entries("diagnose.causes")}
    assert {f.cause for f in FAULTS.values()} <= causes
