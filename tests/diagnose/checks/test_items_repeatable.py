"""items-repeatable: F5, a "fixed" subset that is drawn anew at every reading."""

import numpy as np
import pytest
import torch
from data_subjects import digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn

ID = "items-repeatable"
CHECK = check_of(ID)
NAMES = [
    *("items read twice", "inputs that change", "labels that change under the same input"),
    *("labels that change with the input", "maps that change with the input"),
]


def mixed(draw):
    "Two digits mixed by a weight that `draw(i)` gives; the weight is the label."

    def read(i):
        weight = draw(i)
        return weight * digit(i)[0] + (1 - weight) * digit(i + 500)[0], torch.tensor([weight, 1 - weight]).float()

    return read


def redrawn(i):
    return float(np.random.beta(5, 8))  # noqa: NPY002 - the defect


def own(i):
    return float(np.random.default_rng(i).beta(5, 8))


def mixture(train, valid):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    return over(mixed(train), mixed(valid), model, nn.MSELoss())


@pytest.mark.parametrize("name", ["digits", "diabetes", "heavy_dropout"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_random_augmentation_passes_and_is_said():
    status, summary = judged(ID, over(lambda i: (digit(i)[0] + 0.1 * torch.randn(1, 8, 8), digit(i)[1])))
    assert status == "pass"
    assert "8 of 8 training inputs do" in summary


def test_mask_that_is_flipped_with_its_picture_passes():
    def read(i):
        x, flip = digit(i)[0], torch.rand(1) < 0.5
        x = x.flip(-1) if flip else x
        return x, (x[0] > 0.5).long()

    status, summary = judged(ID, over(read, read, nn.Conv2d(1, 2, 3, padding=1)))
    assert status == "pass"
    assert "with their maps" in summary


def test_f5_fixed_subset_that_is_redrawn():
    status, summary = judged(ID, mixture(redrawn, own))
    assert status == "warn"
    assert "labels of 8 of 16 items are drawn anew" in summary
    assert "training split" in summary
    assert judged(ID, mixture(own, own)).status == "pass"


def test_label_noise_under_the_same_input_fails():
    status, summary = judged(ID, over(lambda i: (digit(i)[0], torch.randint(10, ()))))
    assert status == "fail"
    assert "while the input stays: item 0" in summary


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
