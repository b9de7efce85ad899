"""duplicates: items of both splits that are the same bits or files fail; crops, small tables and repeats do not."""

import pytest
import torch
from data_subjects import Folders, Read, colour_net, digit, over, write_pictures
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn
from torch.utils.data import Subset

from diagnose.checks import Evidence, EvidenceList

ID = "duplicates"
CHECK = check_of(ID)
NAMES = [
    *("items compared", "repeats", "same input, other label", "near duplicates", "share of validation in training"),
    *("share possible by chance", "in both splits", "validation is the training set", "near duplicates across splits"),
    "share of validation files in training",
]


@pytest.mark.parametrize("name", ["digits", "diabetes", "probabilities"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


@pytest.mark.parametrize("torchs", [False, True])
def test_validation_items_in_training(torchs):
    status, summary = judged(ID, over(digit, Read(64, lambda i: digit(i if i < 8 else 500 + i)), torchs=torchs))
    assert status == "fail"
    assert "12.5% of validation items" in summary
    assert "item 0 = training item 0" in summary


def test_overlapping_subsets():
    whole = Read(256, digit)
    learn = over(Subset(whole, range(128)), Subset(whole, range(96, 200)))
    assert judged(ID, learn).status == "fail"
    assert judged(ID, over(Subset(whole, range(128)), Subset(whole, range(128, 200)))).status == "pass"


def test_same_files_under_random_crops(tmp_path):
    write_pictures(tmp_path, ["cat", "dog"], each=32)

    class Cropped(Folders):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + 0.01 * torch.rand(1), y

    data = Cropped(tmp_path)
    status, summary = judged(ID, over(data, Subset(data, range(20, 40)), colour_net(2)))
    assert status == "fail"
    assert "100.0%" in summary
    assert judged(ID, over(data, Cropped(tmp_path), colour_net(2))).status == "pass"


def test_validation_that_is_the_training_set_is_said():
    data = Read(64, digit)
    status, summary = judged(ID, over(data, data))
    assert status == "pass"
    assert "validation shows the training items themselves" in summary


def test_random_crops_of_one_photograph_pass():
    photo = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))

    def crop(start):
        return lambda i: (photo[:, (start + i) % 50 :][:, :8, i % 50 : i % 50 + 8], torch.tensor(i % 10))

    assert judged(ID, over(crop(0), crop(7), count=50)).status == "pass"


def test_rows_of_a_small_table_may_agree_by_chance():
    def row(i):
        g = torch.Generator().manual_seed(i)
        return torch.randint(4, (2,), generator=g).float(), torch.randint(2, (1,), generator=g).float()

    learn = over(row, lambda i: row(i + 1000), nn.Linear(2, 1), nn.MSELoss())
    status, summary = judged(ID, learn)
    assert status == "pass"
    assert "may be by chance" in summary


def tokens(text, stride, start=0):
    ids = torch.tensor([ord(c) for c in text])
    return lambda i: (ids[start + stride * i :][:24], torch.tensor(i % 10))


def test_rows_of_text_in_both_splits():
    text = "".join(chr(97 + int(26 * (k * k * 0.618033988 % 1))) for k in range(9000))
    train, other = tokens(text, 20), tokens(text, 20, 5000)
    learn = over(train, Read(128, lambda i: other(i) if i % 8 else train(i)), nn.Linear(24, 10))
    status, summary = judged(ID, learn)
    assert status == "fail", summary
    assert "item 0 = training item 0" in summary
    assert judged(ID, over(train, other, nn.Linear(24, 10))).status == "pass"


def test_text_that_repeats_itself_everywhere_passes():
    read = tokens("the quick brown fox jumps over the lazy dog while five wizards box quietly; " * 80, 3)
    learn = over(read, lambda i: read(1000 + i), nn.Linear(24, 10))
    assert judged(ID, learn).status == "pass"


def test_rows_of_categories_may_agree_by_chance():
    def row(i):
        return torch.randint(3, (8,), generator=torch.Generator().manual_seed(i)), torch.tensor(i % 10)

    status, summary = judged(ID, over(row, Read(128, lambda i: row(i if i < 16 else 1000 + i)), nn.Linear(8, 10)))
    assert status == "pass"
    assert "may be by chance" in summary


def test_nan_does_not_pass():
    found = [("items compared", 9), ("share of validation in training", float("nan"))]
    assert CHECK.judge(EvidenceList([Evidence(name=n, value=v) for n, v in found])).status != "pass"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
