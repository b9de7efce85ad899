"""label-histogram: F17, one label only; imbalance and labels that the loss ignores are healthy."""

import pytest
import torch
from data_subjects import digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import HEALTHY
from torch import nn

from diagnose.errors import NotApplicable

ID = "label-histogram"
CHECK = check_of(ID)
NAMES = [
    *("labels read", "distinct labels", "items in all", "share of the commonest", "histogram"),
    "the loss depends on the label",
]


def labelled(label):
    return lambda i: (digit(i)[0], torch.tensor(label(i)))


class Reconstruction(nn.Module):
    "Compares the output with nothing that comes from the label."

    def forward(self, out, y):
        return out.square().mean()


@pytest.mark.parametrize("name", ["digits", "diabetes", "probabilities"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_imbalance_is_said():
    status, summary = judged(ID, over(labelled(lambda i: int(i % 16 == 0))))
    assert status == "pass"
    assert "the commonest 94% of them" in summary


def test_rare_label_is_looked_for():
    found = measured(ID, over(labelled(lambda i: int(i == 1234)), count=2000))
    assert found.get("distinct labels", "training") == 2
    assert CHECK.judge(found).status == "pass"


def test_dummy_label_that_the_loss_ignores_passes():
    status, summary = judged(ID, over(labelled(lambda i: 0), loss=Reconstruction()))
    assert status == "pass"
    assert "the loss ignores them" in summary


def test_no_label():
    with pytest.raises(NotApplicable, match="no label"):
        judged(ID, over(lambda i: (digit(i)[0],), lambda i: (digit(i)[0],)))


def test_f17_all_labels_alike():
    status, summary = judged(ID, over(labelled(lambda i: 1)))
    assert status == "fail"
    assert "all 128 training labels that were read are alike (class 1)" in summary
    assert judged(ID, over(labelled(lambda i: i % 2))).status == "pass"


def test_f17_all_targets_of_a_regression_alike():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    learn = over(lambda i: (digit(i)[0], torch.tensor([0.5, 0.5])), model=model, loss=nn.MSELoss())
    assert judged(ID, learn).status == "fail"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
