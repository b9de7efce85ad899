"""item-memory: F13, greyscale pictures expanded to three channels among others; one buffer for all items."""

import pytest
import torch
from data_subjects import colour_net, digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY

ID = "item-memory"
CHECK = check_of(ID)
NAMES = ["items with tensors", "items with a stride of 0", "stride of 0", "overwritten by later items"]


def colour(grey, own=False):
    "Three channels; of items that `grey` names they are one piece of memory."

    def read(i):
        x, y = digit(i)
        wide = x.expand(3, 8, 8)
        return (wide if grey(i) and not own else wide.clone()), y

    return read


@pytest.mark.parametrize("name", ["digits", "diabetes", "stop_gradient"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_all_expanded_is_said_and_passes():
    read = colour(lambda i: True)
    status, summary = judged(ID, over(read, read, colour_net(10)))
    assert status == "pass"
    assert "all have elements that share memory" in summary


def test_f13_greyscale_expanded_among_colour():
    valid = colour(lambda i: False)
    status, summary = judged(ID, over(colour(lambda i: i % 32 == 0), valid, colour_net(10)))
    assert status == "warn"
    assert "4 of 256 items" in summary
    assert "strides (0, 8, 1)" in summary
    assert judged(ID, over(colour(lambda i: i % 32 == 0, own=True), valid, colour_net(10))).status == "pass"


def test_one_buffer_for_all_items():
    buffer = torch.zeros(1, 8, 8)

    def read(i):
        x, y = digit(i)
        buffer.copy_(x)
        return buffer, y

    status, summary = judged(ID, over(read))
    assert status == "fail"
    assert "change when later ones are read" in summary


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
