"""Class indices without an output: named and proven, also where the loss raises; ignored and unused ones left alone."""

import pytest
from data_subjects import digit, over
from learners import digits, small_cnn
from naming import examined, findings_of, is_left_alone, is_named, settled, stands_any_evidence, with_fault
from torch import nn

ID = "labels-out-of-range"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_that_only_validation_has_is_named(seed):
    first = is_named(with_fault("class-without-output", digits, seed), ID)
    assert "validation" in first.where[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_that_the_head_lacks_is_named_though_the_loss_raises(seed):
    learn = digits(seed, model=small_cnn(9))
    diagnosis = examined(learn, seed)
    assert diagnosis.verdict == "fail"
    assert diagnosis.causes[0].id == ID
    proof = settled(ID, learn, diagnosis, seed)
    assert proof.proven
    assert "no such output" in proof.proof.before.summary


def test_the_error_of_the_loss_alone_is_enough():
    diagnosis = examined(digits(model=small_cnn(9)), only=["loss-fits-targets"])
    assert diagnosis.causes[0].id == ID
    assert "9 outputs" in diagnosis.causes[0].summary


def test_another_error_of_the_loss_is_not_blamed_on_the_labels():
    found = findings_of(examined(digits(loss_func=nn.BCEWithLogitsLoss()), only=["loss-fits-targets"]))
    assert found.value("loss-fits-targets", "loss raised")
    assert not [c for c in examined(digits(loss_func=nn.BCEWithLogitsLoss())).causes if c.id == ID]


def test_ignored_labels_and_unused_outputs_are_left_alone():
    def some_ignored(i):
        x, y = digit(i)
        return x, y * 0 - 100 if i % 5 == 0 else y

    is_left_alone(examined(over(some_ignored, some_ignored, model=small_cnn(12))), ID)


def test_numbers_alone():
    diagnosis = with_fault("class-without-output", digits)
    stands_any_evidence(ID, findings_of(diagnosis))
