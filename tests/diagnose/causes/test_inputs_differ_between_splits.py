"""Splits prepared apart: named and proven on validation rows; a column that drifts and augmentation are left alone."""

import torch
from data_subjects import digit, over
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import flat_regression

from diagnose.faults._items import alter

ID = "inputs-differ-between-splits"


@in_turn(build=[digits, flat_regression, diabetes], fault=["validation-in-bytes", "validation-normalised-otherwise"])
def test_validation_prepared_otherwise_is_named(build, fault, seed):
    proof = is_named(with_fault(fault, build, seed), ID).proof
    before, after = (side.numbers["learned on validation rows"] for side in (proof.before, proof.after))
    assert after >= -0.1
    assert not before >= after - 0.3
    assert proof.after.numbers["learned on held-out training rows"] >= 0.1


def test_a_column_that_drifts_is_left_alone():
    def later(inputs, targets, i):
        x = inputs[0].clone()
        x[3] += 20
        return [x], targets

    learn = diabetes()
    alter(learn, later, splits=(1,))
    diagnosis = examined(learn)
    assert ID not in [c.id for c in diagnosis.causes]
    assert not [c.id for c in diagnosis.causes if c.proven]


def test_noise_on_training_items_is_left_alone():
    def noisy(i):
        x, y = digit(i)
        return x + 0.1 * torch.randn_like(x), y

    is_left_alone(examined(over(noisy)), ID)


def test_validation_of_other_inputs_that_no_scaling_brings_back_is_not_proven():
    def foreign(i):
        x, y = digit(1000 + i)
        return 5 + 3 * torch.randn_like(x), y

    diagnosis = examined(over(digit, foreign))
    assert ID in [c.id for c in diagnosis.causes]
    assert not [c.id for c in diagnosis.causes if c.proven]


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("validation-in-bytes", digits)))
