"""shuffling: labels that come sorted; shuffled, balanced and unsorted streams are healthy."""

import pytest
import torch
from data_subjects import Read, digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn
from torch.utils.data import DataLoader as TorchLoader

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "shuffling"
CHECK = check_of(ID)
NAMES = [
    *("labels in order", "batch size", "the loader reads in order", "batches of one label", "the same by chance"),
    *("neighbours alike", "neighbours alike by chance", "spread of the chance", "variance inside batches"),
]


def by_class(i):
    "Sorted: 32 items of each of 4 classes."
    return digit(i)[0], torch.tensor(i // 32)


@pytest.mark.parametrize("name", ["digits", "diabetes", "label_smoothing"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_items_in_order_whose_labels_are_not_pass():
    assert judged(ID, over(digit, shuffle=False)).status == "pass"


@pytest.mark.parametrize("torchs", [False, True])
def test_labels_come_sorted(torchs):
    status, summary = judged(ID, over(by_class, shuffle=False, torchs=torchs))
    assert status == "fail"
    assert "100% of the training batches hold one label only, 0% would by chance" in summary
    assert judged(ID, over(by_class, torchs=torchs)).status == "pass"


def test_many_classes_sorted_warn():
    status, summary = judged(ID, over(lambda i: (digit(i)[0], torch.tensor(i // 6)), shuffle=False))
    assert status == "warn"
    assert "labels come sorted" in summary


def test_several_of_each_class_in_a_batch_pass():
    learn = over(by_class)
    some = [[32 * c + 4 * k + j for c in range(4) for j in range(4)] for k in range(8)]
    learn.dls.loaders[0] = TorchLoader(Read(128, by_class), batch_sampler=some)
    assert judged(ID, learn).status in ("pass", "warn")
    assert judged(ID, learn).status == "pass"


def test_sorted_numbers_warn():
    def read(i):
        return digit(i)[0], torch.tensor([i / 128])

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    status, summary = judged(ID, over(read, read, model, nn.MSELoss(), shuffle=False))
    assert status == "warn"
    assert "of the variance of the labels is inside batches" in summary
    assert judged(ID, over(read, read, model, nn.MSELoss())).status == "pass"


def test_vectors_have_no_order():
    with pytest.raises(NotApplicable, match="one class index or one number"):
        judged(ID, HEALTHY["probabilities"]())


def test_nothing_is_left_behind():
    learn = over(digit)
    state = learn.dls.train.rng.getstate(), torch.get_rng_state()
    judged(ID, learn)
    assert learn.dls.train.rng.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


def test_nan_does_not_pass():
    found = [("variance inside batches", float("nan")), ("the loader reads in order", True)]
    assert CHECK.judge(EvidenceList([Evidence(name=n, value=v) for n, v in found])).status == "warn"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
