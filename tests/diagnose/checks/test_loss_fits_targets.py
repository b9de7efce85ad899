"""loss-fits-targets: healthy losses of every kind pass, wrong pairs of loss and target are named with the number."""

import math

import pytest
import torch
from fastai.callback.core import Callback
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat, LabelSmoothingCrossEntropy, MSELossFlat
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import diabetes, digits, loaders_of, probabilities, small_cnn
from torch import nn
from torch.nn import functional as F

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "loss-fits-targets"
NAMES = [
    *("output", "target", "least target", "largest target", "outputs", "loss raised", "accepts the targets", "loss"),
    *("follows the outputs", "follows the targets", "callbacks that may replace the loss", "falls without end"),
    *("bounded for targets in [0, 1]", "bounded for log-softmaxed outputs", "class indices expected below"),
    *("classes of the loaders", "softmax inside the loss", "least sum of a target", "largest sum of a target"),
    *("last activations", "out of reach"),
]


def with_targets(targets, model=None, outputs=10, **kwargs):
    "Digits whose class ids have been replaced by `targets(ids)`."
    learn = digits(model=model or small_cnn(outputs), **kwargs)
    x, y = (torch.cat(parts) for parts in zip(*(b for dl in learn.dls.loaders for b in dl)))
    learn.dls = loaders_of(x, targets(y))
    return learn


class Critic(nn.Module):
    "A Wasserstein critic's loss: no lower bound, and healthy."

    def forward(self, scores, y):
        return (scores.squeeze(1) * torch.where(y % 2 == 0, 1.0, -1.0)).mean()


class Segments(nn.Module):
    "A class for every pixel."

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


class WithFeatures(nn.Module):
    "Gives its features beside the scores, as recurrent models of fastai do."

    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body(x), x


class TakesFirst(Callback):
    "Hands the loss the scores alone."

    def after_pred(self):
        self.learn.pred = self.pred[0]


def pixels(y):
    return torch.arange(64).reshape(1, 8, 8).add(y[:, None, None]).remainder(3)


def soft(y):
    return F.one_hot(y, 10) * 0.8 + 0.02


def multi_label(y):
    return torch.stack([y % 2, (y > 4).long(), (y > 7).long()], 1)


LOOK_ALIKES = {
    "label smoothing": lambda: digits(loss_func=LabelSmoothingCrossEntropy()),
    "soft labels": lambda: with_targets(soft, loss_func=nn.CrossEntropyLoss()),
    "a critic": lambda: digits(model=small_cnn(1), loss_func=Critic()),
    "a lambda": lambda: digits(loss_func=lambda out, y: F.cross_entropy(out, y)),
    "segmentation": lambda: with_targets(pixels, Segments(), loss_func=CrossEntropyLossFlat(axis=1)),
    "ignored labels": lambda: with_targets(lambda y: torch.where(y > 7, -100, y), loss_func=nn.CrossEntropyLoss()),
    "multi-label": lambda: with_targets(multi_label, outputs=3, loss_func=BCEWithLogitsLossFlat()),
    "flat regression": lambda: diabetes(loss_func=MSELossFlat()),
    "int32 class ids": lambda: with_targets(lambda y: y.int(), loss_func=CrossEntropyLossFlat()),
    "sigmoid and BCELoss": lambda: probabilities(),
    "triplet without labels": lambda: digits(loss_func=lambda out, y: (out[:-1] - out[1:]).pow(2).mean() + 1),
    "output unpacked by a callback": lambda: digits(model=WithFeatures(), cbs=TakesFirst()),
    "ReLU before a cross-entropy": lambda: digits(model=nn.Sequential(small_cnn(), nn.ReLU())),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alike_passes(name):
    status, summary = judged(ID, LOOK_ALIKES[name]())
    assert status == "pass", summary


FAULTY = {
    "F11 flat": (
        lambda: digits(model=small_cnn(1), loss_func=BCEWithLogitsLossFlat()),
        "no lower bound: targets range from 0 to 9",
    ),
    "F11 floats": (
        lambda: with_targets(lambda y: y.float()[:, None], outputs=1, loss_func=nn.BCEWithLogitsLoss()),
        "no lower bound: targets range from 0 to 9",
    ),
    "one output under a softmax": (lambda: digits(model=small_cnn(1)), "the model has 1 outputs"),
    "one output under a softmax, one label": (
        lambda: with_targets(lambda y: y * 0, outputs=1, loss_func=nn.CrossEntropyLoss()),
        "whatever the outputs are",
    ),
    "too few outputs": (lambda: digits(model=small_cnn(7)), "the largest target is 9, the model has 7 outputs"),
    "labels from -1": (
        lambda: with_targets(lambda y: y - 1, loss_func=nn.CrossEntropyLoss()),
        "the least target is -1",
    ),
    "float class ids": (
        lambda: with_targets(lambda y: y.float(), loss_func=nn.CrossEntropyLoss()),
        "accepts the targets as long",
    ),
    "class ids with an axis": (
        lambda: with_targets(lambda y: y[:, None], loss_func=nn.CrossEntropyLoss()),
        "without the axis of size 1",
    ),
    "one-hot integers": (
        lambda: with_targets(lambda y: F.one_hot(y, 10), loss_func=nn.CrossEntropyLoss()),
        "as indices (argmax)",
    ),
    "class ids for a multi-label loss": (lambda: digits(loss_func=nn.BCEWithLogitsLoss()), "one-hot as float"),
    "probabilities above 1": (
        lambda: with_targets(
            lambda y: y.float()[:, None], nn.Sequential(small_cnn(1), nn.Sigmoid()), loss_func=nn.BCELoss()
        ),
        "clamped to [0, 1]",
    ),
    "NLLLoss of free outputs": (lambda: digits(loss_func=nn.NLLLoss()), "expects log-probabilities"),
    "F4 sigmoid twice": (
        lambda: with_targets(
            multi_label_floats, nn.Sequential(small_cnn(3), nn.Sigmoid(), nn.Sigmoid()), loss_func=nn.BCELoss()
        ),
        "Sigmoid and then Sigmoid end the model",
    ),
    "F4 softmax twice": (
        lambda: digits(model=nn.Sequential(small_cnn(), nn.Softmax(1), nn.LogSoftmax(1)), loss_func=nn.NLLLoss()),
        "Softmax and then LogSoftmax end the model",
    ),
    "ReLU before logits": (
        lambda: with_targets(
            multi_label_floats, nn.Sequential(small_cnn(3), nn.ReLU()), loss_func=nn.BCEWithLogitsLoss()
        ),
        "Relu ends the model",
    ),
    "not finite": (lambda: digits(loss_func=lambda out, y: F.cross_entropy(out, y) * math.nan), "the loss is nan"),
}


def multi_label_floats(y):
    return multi_label(y).float()


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_subject_fails_with_the_number(name):
    build, words = FAULTY[name]
    status, summary = judged(ID, build())
    assert status == "fail"
    assert words in summary


def test_several_true_labels_under_a_softmax_are_warned_of():
    learn = with_targets(multi_label_floats, outputs=3, loss_func=nn.CrossEntropyLoss())
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "add up to 0 to 3" in summary


def test_classes_of_the_loaders_are_compared_with_the_outputs():
    learn = digits()
    learn.dls.c = 12
    status, summary = judged(ID, learn)
    assert (status, summary) == ("warn", "the loaders name 12 classes and the model has 10 outputs")


def test_forward_that_raises_is_left_to_the_shape_trace():
    with pytest.raises(NotApplicable, match="shape-trace"):
        judged(ID, digits(model=nn.Sequential(nn.Flatten(), nn.Linear(3, 10))))


@given(evidence_of(NAMES))
def test_judge_never_raises_and_nan_never_passes(evidence):
    result = check_of(ID).judge(evidence)
    assert is_judgement(result)
    loss = evidence.get("loss")
    if not isinstance(loss, (int, float)) or not math.isfinite(loss):
        assert result.status != "pass"


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    loss = Evidence(name="loss", value=0.7)
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([loss])).status == "pass"
    assert judge(EvidenceList([loss, Evidence(name="out of reach", value=0.3)])).status == "warn"
    assert judge(EvidenceList([loss, Evidence(name="out of reach", value=0.6)])).status == "fail"
    assert judge(EvidenceList([loss, Evidence(name="out of reach", value=math.nan)])).status == "fail"
