"""items-finite: readable and finite items pass; NaN, infinity and unreadable files are named with their index."""

import pytest
import torch
from data_subjects import Folders, colour_net, digit, over, write_pictures
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "items-finite"
CHECK = check_of(ID)
NAMES = [
    *("items read", "unreadable", "NaN in inputs", "infinity in inputs", "target not finite"),
    *("items with a missing label", "NaN filled before the model", "output finite with NaN in the input"),
]


def with_value(index, value):
    def read(i):
        x, y = digit(i)
        x = x.clone()
        if i == index:
            x[0, 3, 4] = value
        return x, y

    return read


class Copes(nn.Module):
    "Fills NaN itself."

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(torch.nan_to_num(x).flatten(1))


class WithMask(nn.Module):
    "Adds a mask of 0 and -inf to scores, as attention does."

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x, mask):
        return self.layer((x.flatten(1) + mask).softmax(1))


def masked(i):
    x, y = digit(i)
    return x, torch.where(torch.arange(64) < 5, -torch.inf, 0.0), y


@pytest.mark.parametrize("name", ["digits", "diabetes", "probabilities"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_nan_that_the_model_fills_passes():
    status, summary = judged(ID, over(with_value(7, torch.nan), model=Copes()))
    assert status == "pass"
    assert "hold NaN" in summary


def test_infinite_attention_mask_passes():
    assert judged(ID, over(masked, masked, model=WithMask())).status == "pass"


def test_missing_labels_among_several_pass():
    def read(i):
        x, y = digit(i)
        return x, torch.tensor([float(y), torch.nan if i % 3 else 1.0])

    status, summary = judged(ID, over(read, read, model=small_regression()))
    assert status == "pass"
    assert "lack some of their labels" in summary


def small_regression():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
def test_value_is_named_with_its_place(value, word):
    status, summary = judged(ID, over(with_value(7, value)))
    assert status == "fail"
    assert word in summary
    assert "item 7, input 1, channel 0, position [3, 4]" in summary


def test_target_that_is_nan_fails():
    def read(i):
        x, y = digit(i)
        return x, torch.tensor(torch.nan if i == 5 else float(y))

    status, summary = judged(ID, over(read, model=small_regression(), loss=nn.MSELoss()))
    assert status == "fail"
    assert "item 5" in summary


@pytest.mark.parametrize("torchs", [False, True])
def test_unreadable_file_is_named(tmp_path, torchs):
    files = write_pictures(tmp_path, ["cat", "dog"])
    data = Folders(tmp_path)
    assert judged(ID, over(data, data, colour_net(2), torchs=torchs, bs=4)).status == "pass"
    files[3].write_bytes(files[3].read_bytes()[:60])
    status, summary = judged_from(over(data, data, colour_net(2), torchs=torchs, bs=4))
    assert status == "fail"
    assert "item 3 (cat/cat3.png)" in summary


def judged_from(learn):
    return judged(ID, learn)


def test_numbers_alone():
    found = EvidenceList([Evidence(name="items read", value=9, where="training")])
    assert CHECK.judge(found).status == "pass"
    assert CHECK.judge(EvidenceList([Evidence(name="items read", value=float("nan"))])).status == "skip"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))


def test_validation_of_which_nothing_can_be_read():
    def missing(i):
        raise FileNotFoundError(f"no file {i}.png")

    status, summary = judged(ID, over(digit, missing))
    assert status == "fail"
    assert "FileNotFoundError: no file 0.png" in summary
