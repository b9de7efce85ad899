"""positives-equal: F21, a shuffle of channels that draws the identity, labelled as shuffled."""

import itertools

import numpy as np
import pytest
import torch
from data_subjects import Read, colour_net, digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "positives-equal"
CHECK = check_of(ID)
NAMES = ["items read", "positives compared", "equal to their clean version", "which"]
ORDERS = list(itertools.permutations(range(3)))


class Shuffled(Read):
    "Every other item has its channels shuffled, and label 1."

    def __init__(self, orders):
        super().__init__(128, self.make)
        self.orders = orders

    def clean_item(self, i):
        return torch.cat([digit(i)[0], digit(i + 200)[0], digit(i + 400)[0]])

    def make(self, i):
        order = self.orders[np.random.default_rng(i).integers(len(self.orders))] if i % 2 else (0, 1, 2)
        return self.clean_item(i)[list(order)], torch.tensor(i % 2)


def test_f21_shuffle_that_draws_the_identity():
    status, summary = judged(ID, over(Shuffled(ORDERS), Shuffled(ORDERS), colour_net(2)))
    assert status == "fail"
    assert "positives are the same bits as their clean version" in summary
    assert "accuracy cannot exceed about 0." in summary
    status, summary = judged(ID, over(Shuffled(ORDERS[1:]), Shuffled(ORDERS[1:]), colour_net(2)))
    assert status == "pass"
    assert "none of" in summary


def test_one_clean_item_among_torch_loaders():
    data = Shuffled(ORDERS)
    assert judged(ID, over(data, data, colour_net(2), torchs=True)).status == "fail"


@pytest.mark.parametrize("name", ["digits", "diabetes", "probabilities"])
def test_data_set_without_clean_items(name):
    with pytest.raises(NotApplicable, match="clean_item"):
        judged(ID, HEALTHY[name]())


def test_method_of_another_meaning():
    data = Read(128, digit)
    data.clean_item = lambda: None
    with pytest.raises(NotApplicable, match="raised TypeError"):
        judged(ID, over(data))


def test_numbers_alone():
    found = [("items read", 10), ("positives compared", 5), ("equal to their clean version", float("nan"))]
    assert CHECK.judge(EvidenceList([Evidence(name=n, value=v) for n, v in found])).status == "skip"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
