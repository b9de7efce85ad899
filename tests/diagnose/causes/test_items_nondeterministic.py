"""Labels that change when read again: named and proven; streams of fresh draws and augmentation are left alone."""

import random

import pytest
import torch
from data_subjects import digit, over
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "items-nondeterministic"


@in_turn(build=[digits, diabetes])
def test_a_label_drawn_anew_is_named(build, seed):
    is_named(with_fault("label-drawn-anew", build, seed), ID)


@pytest.mark.parametrize("seed", [0, 1])
def test_f5_a_tiny_subset_that_is_drawn_anew_is_named(seed):
    proof = is_named(with_fault("tiny-subset-redrawn", digits, seed), ID).proof
    assert proof.after.learned >= 0.8
    assert proof.before.learned <= 0.5


def test_a_large_stream_of_fresh_draws_is_not_proven():
    diagnosis = examined(over(lambda i: digit(random.randrange(1000))))
    assert ID in [c.id for c in diagnosis.causes]
    assert diagnosis.verdict != "fail", diagnosis.summary


def test_a_tiny_set_of_draws_that_is_learned_is_not_proven():
    diagnosis = examined(over(lambda i: digit(2 * i + random.randrange(2)), count=32))
    assert ID in [c.id for c in diagnosis.causes]
    assert diagnosis.verdict != "fail", diagnosis.summary


def test_augmentation_is_left_alone():
    def noisy(i):
        x, y = digit(i)
        return x + 0.1 * torch.randn_like(x), y

    is_left_alone(examined(over(noisy, noisy, count=32)), ID)


def test_evidence_alone():
    stands_any_evidence(ID, findings_of(with_fault("label-drawn-anew", digits)))
