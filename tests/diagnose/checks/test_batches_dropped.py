"""batches-dropped: F29, a validation loader that drops its last batch; loaders that yield nothing."""

import pytest
import torch
from data_subjects import Read, digit, over
from fastai.data.core import DataLoaders
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY, digits

from diagnose.errors import NotApplicable

ID = "batches-dropped"
CHECK = check_of(ID)
NAMES = ["items", "batch size", "items dropped", "in order"]


@pytest.mark.parametrize("name", ["digits", "diabetes", "pair_scores"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_shuffled_training_that_drops_a_third_passes():
    status, summary = judged(ID, over(digit, count=24, bs=16))
    assert status == "pass"
    assert "8 of 24 training items (33.3%)" in summary


@pytest.mark.parametrize("torchs", [False, True])
def test_f29_validation_drops_its_last_batch(torchs):
    valid = Read(100, lambda i: digit(1000 + i))
    status, summary = judged(ID, over(digit, valid, drop_valid=True, torchs=torchs))
    assert status == "warn"
    assert "4 of 100 validation items" in summary
    assert judged(ID, over(digit, valid, torchs=torchs)).status == "pass"


def test_validation_that_yields_no_batch_fails():
    status, summary = judged(ID, over(digit, Read(10, digit), drop_valid=True))
    assert status == "fail"
    assert "fewer than one batch of 16" in summary


def test_items_that_are_never_seen_warn():
    status, summary = judged(ID, over(digit, count=24, bs=16, shuffle=False))
    assert status == "warn"
    assert "8 of 24 training items" in summary


def test_list_of_batches_does_not_tell():
    learn = digits()
    learn.dls = DataLoaders([(torch.rand(4, 1, 8, 8), torch.arange(4))], [(torch.rand(4, 1, 8, 8), torch.arange(4))])
    with pytest.raises(NotApplicable, match="do not tell"):
        judged(ID, learn)


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
