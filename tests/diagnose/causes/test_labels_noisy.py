"""One content under several labels, and clean positives: named and proven; votes, repeats and texts are left alone."""

import pytest
import torch
from data_subjects import Read, digit, over
from learners import digits, small_cnn
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import language_model_of_fastai

ID = "labels-noisy"


class Shuffled(Read):
    """Digits of which the odd ones are flipped, every sixth of those by the identity: real failure F21."""

    def __init__(self, identity: bool):
        super().__init__(128, self.made)
        self.identity = identity

    def clean_item(self, i):
        return digit(i)[0]

    def made(self, i):
        x = self.clean_item(i)
        flip = i % 2 and not (self.identity and i % 12 == 1)
        return (x.flip(-1) + 0.25 if flip else x), torch.tensor(i % 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_placeholder_pictures_are_named(seed):
    assert "under another label" in is_named(with_fault("placeholder-pictures", digits, seed), ID).summary


def test_f21_positives_that_are_clean_are_named():
    is_named(examined(over(Shuffled(True), Shuffled(False), model=small_cnn(2))), ID)


def test_f21_positives_that_differ_are_left_alone():
    is_left_alone(examined(over(Shuffled(False), lambda i: digit(500 + i), model=small_cnn(10))), ID)


def test_votes_of_several_annotators_are_not_proven():
    def vote(i):
        x, y = digit(i // 3)
        return x, y if i % 3 else (y + i) % 10

    diagnosis = examined(over(vote))
    assert ID not in [c.id for c in diagnosis.causes if c.proven]


def test_repeats_that_agree_are_left_alone():
    is_left_alone(examined(over(lambda i: digit(i // 2))), ID)


def test_texts_that_repeat_under_other_labels_are_refuted():
    found = {c.id: c for c in examined(language_model_of_fastai()).causes}
    assert found[ID].refuted
    assert not [c for c in found.values() if c.proven]


def test_numbers_alone():
    stands_any_evidence(ID, findings_of(with_fault("placeholder-pictures", digits)))
