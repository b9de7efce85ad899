"""One label for everything: named and proven; a loss that reads no label and a rare second label are left alone."""

import torch
from data_subjects import digit, over
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import contrastive_dummy_label

ID = "labels-constant"


@in_turn(build=[digits, diabetes])
def test_one_label_is_named(build, seed):
    assert "alike" in is_named(with_fault("one-label", build, seed), ID).summary


def test_a_loss_that_reads_no_label_is_left_alone():
    is_left_alone(examined(contrastive_dummy_label()), ID)


def test_a_rare_second_label_is_left_alone():
    def rare(i):
        return digit(i)[0], torch.tensor(int(i % 16 == 3))

    is_left_alone(examined(over(rare, rare, count=320)), ID)


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("one-label", digits)))
