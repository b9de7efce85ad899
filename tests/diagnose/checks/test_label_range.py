"""label-range: class indices within the outputs pass, others are named; losses of other kinds are left alone."""

import pytest
import torch
from data_subjects import digit, over
from fastai.losses import BCEWithLogitsLossFlat
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY, digits, small_cnn
from torch import nn
from torch.nn import functional as F

from diagnose.errors import NotApplicable

ID = "label-range"
CHECK = check_of(ID)
NAMES = ["outputs", "items read", "least label", "largest label", "distinct labels", "labels out of range"]


class Prototypes(nn.Module):
    "Embeddings of 4 numbers against 10 classes kept in the loss: more labels than outputs, and healthy."

    def __init__(self):
        super().__init__()
        self.of_class = nn.Parameter(torch.randn(10, 4))

    def forward(self, z, y):
        return F.cross_entropy(z @ self.of_class.T, y)


@pytest.mark.parametrize("name", ["digits", "softmax_and_nll", "label_smoothing"])
def test_healthy(name):
    status, summary = judged(ID, HEALTHY[name]())
    assert status == "pass"
    assert "10 of 10 outputs" in summary


def test_ignored_index_passes():
    learn = over(lambda i: (digit(i)[0], torch.tensor(-100 if i % 4 == 0 else i % 10)))
    assert judged(ID, learn).status == "pass"


@pytest.mark.parametrize("name", ["diabetes", "probabilities"])
def test_other_losses_are_left_alone(name):
    with pytest.raises(NotApplicable, match="no class ind"):
        judged(ID, HEALTHY[name]())


def test_classes_inside_the_loss_are_left_alone():
    with pytest.raises(NotApplicable, match="no class ind"):
        judged(ID, digits(model=small_cnn(4), loss_func=Prototypes()))


def test_binary_column_of_integers_is_left_alone():
    learn = over(lambda i: (digit(i)[0], torch.tensor([i % 2])), model=small_cnn(1), loss=BCEWithLogitsLossFlat())
    with pytest.raises(NotApplicable):
        judged(ID, learn)


@pytest.mark.parametrize(("shift", "word"), [(1, ": 10"), (-1, ": -1")])
def test_label_without_output(shift, word):
    status, summary = judged(ID, over(lambda i: (digit(i)[0], digit(i)[1] + shift)))
    assert status == "fail"
    assert word in summary
    assert "among 10" in summary


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
