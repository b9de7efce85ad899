"""Targets in raw units: named and proven; targets that are learned as they are, and classes, are left alone."""

import pytest
from learners import diabetes, digits, small_cnn
from naming import cause_of, examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import far_targets, flat_regression, tabular

from diagnose.faults._items import alter

ID = "targets-not-scaled"


@in_turn(build=[diabetes, flat_regression, tabular])
def test_targets_in_raw_units_are_named(build, seed):
    first = is_named(with_fault("targets-in-raw-units", build, seed), ID)
    assert "targets standardised" in first.proof.change


def test_targets_next_to_nothing_are_named():
    learn = diabetes(lr=3e-2)
    alter(learn, lambda inputs, targets, i: (inputs, [targets[0] * 1e-6]))
    is_named(examined(learn), ID)


@pytest.mark.parametrize("seed", [0, 1])
def test_targets_that_are_learned_are_left_alone(seed):
    is_left_alone(examined(far_targets(seed), seed), ID)


def test_large_targets_that_are_learned_are_left_alone():
    learn = diabetes(lr=3e-2)
    alter(learn, lambda inputs, targets, i: (inputs, [targets[0] * 30]))
    diagnosis = examined(learn)
    assert cause_of(ID).suspect(findings_of(diagnosis))
    is_left_alone(diagnosis, ID)


def test_class_indices_are_no_quantity():
    def doubled(inputs, targets, i):
        return inputs, [targets[0] * 3]

    learn = digits(model=small_cnn(30))
    alter(learn, doubled)
    assert cause_of(ID).suspect(findings_of(examined(learn))) is None


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("targets-in-raw-units", diabetes)))
