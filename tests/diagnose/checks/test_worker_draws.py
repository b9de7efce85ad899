"""worker-draws: F20, workers that share numpy's state and a repair that repeats every epoch; F29, items that reseed."""

import numpy as np
import pytest
import torch
from data_subjects import digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY

ID = "worker-draws"
CHECK = check_of(ID)
NAMES = [
    *("workers", "streams in use", "streams that items reset", "draws", "the same in both workers"),
    "the same in both epochs",
]


def noisy(i):
    "Noise from numpy's global stream."
    x, y = digit(i)
    return x + torch.from_numpy(np.random.randn(1, 8, 8)).float(), y  # noqa: NPY002 - the defect


def one_state(worker):
    np.random.seed(1)  # noqa: NPY002 - as torch before 1.9, whose workers were copies of one state


def own_state(worker):
    np.random.seed(1 + worker)  # noqa: NPY002 - the repair that repeats every epoch


def from_torch(worker):
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002


@pytest.mark.parametrize("name", ["digits", "diabetes", "heavy_dropout"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_one_process_passes():
    status, summary = judged(ID, over(noisy))
    assert status == "pass"
    assert "numpy, in one process" in summary


def test_f20_workers_share_one_state():
    status, summary = judged(ID, over(noisy, torchs=True, workers=2, worker_init_fn=one_state))
    assert status == "fail"
    assert "draws from numpy are the same in both workers" in summary
    assert judged(ID, over(noisy, torchs=True, workers=2, worker_init_fn=from_torch)).status == "pass"
    assert judged(ID, over(noisy, torchs=True, workers=2)).status == "pass"


def test_f20_every_epoch_repeats_the_first():
    status, summary = judged(ID, over(noisy, torchs=True, workers=2, worker_init_fn=own_state))
    assert status == "warn"
    assert "6 of 12 draws from numpy are the same in both epochs" in summary


def test_f20_fastai_loaders():
    assert judged(ID, over(noisy, workers=2)).status == "pass"
    assert judged(ID, over(noisy, workers=2, wif=lambda: one_state(0))).status == "fail"


def test_f29_item_that_reseeds_numpy():
    def reseeding(i):
        np.random.seed(7)  # noqa: NPY002
        return noisy(i)

    status, summary = judged(ID, over(reseeding))
    assert status == "pass"
    assert "resets the global stream of numpy" in summary


def test_shared_streams_that_no_item_uses_pass():
    assert judged(ID, over(digit, torchs=True, workers=2, worker_init_fn=one_state)).status == "pass"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
