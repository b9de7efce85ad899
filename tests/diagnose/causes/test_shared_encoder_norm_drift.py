"""Calls of one encoder on unlike inputs are named; like ones, a stacked call and GroupNorm are not."""

import pytest
import torch
from learners import digits, small_cnn
from naming import CauseTests, cause_of, examined, is_left_alone, is_named
from torch import nn

from diagnose.causes import Suspicion
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.subject import from_learner, from_task
from sslwang.models.pairs import PairNet

ID = "shared-encoder-norm-drift"
ONLY = ("overfit-one-batch", "modes-agree", "calls-alike")


class Compared(nn.Module):
    "A picture and another kind of it through one encoder, and a head that compares the two codes."

    def __init__(self, other, stacked=False, norm="batch"):
        super().__init__()
        self.encoder, self.head = small_cnn(16), nn.Linear(32, 10)
        if norm == "group":
            for block, channels in ((0, 16), (1, 32)):
                self.encoder[block][1] = nn.GroupNorm(4, channels)
        self.other, self.stacked = other, stacked

    def forward(self, x):
        xs = [x, self.other(x)]
        if self.stacked:
            codes = self.encoder(torch.stack(xs, 1).flatten(0, 1)).unflatten(0, (-1, 2)).unbind(1)
        else:
            codes = [self.encoder(x) for x in xs]
        return self.head(torch.cat([(codes[0] - codes[1]).abs(), codes[0] * codes[1]], 1))


def mirrored(x):
    return x.flip(-1)


def drawn(x):
    "As ink on white paper, in units of its own."
    return 5 - 2 * (x.flip(-1) > 0.5).float()


def net(other, **kwargs):
    return lambda seed: digits(seed, model=Compared(other, **kwargs))


class TestCause(CauseTests):
    id, only = ID, ONLY
    named = [("encoder-on-unlike-inputs", digits)]
    healthy = {
        "like inputs": net(mirrored),
        "one stacked call": net(drawn, stacked=True),
        "group norm": net(drawn, norm="group"),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_picture_and_a_drawing_of_it_in_a_call_each(seed):
    first = is_named(examined(net(drawn)(seed), seed, only=ONLY), ID)
    assert first.where == ["encoder.0.1"]
    assert first.proof.change == "one stacked call of encoder a step"


class Refining(nn.Module):
    "One encoder, called again on what it returned."

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)), nn.Linear(64, 10)

    def forward(self, x):
        return self.head((self.encoder(5 + self.encoder(x))).flatten(1))


def test_calls_that_depend_on_each_other_cannot_be_stacked():
    lab = Lab(from_learner(digits(0, model=Refining())), 0)
    change = cause_of(ID).cure(lab, Suspicion(1.0, "told", ["encoder.1"], {"norm": "encoder.1"}))
    with pytest.raises(NotApplicable, match="depends on what it returned before"):
        lab.trial(change)


def test_a_stacked_call_is_the_several_calls_where_no_norm_depends_on_the_batch():
    lab = Lab(from_learner(net(drawn, norm="group")(0)), 0)
    change = cause_of(ID).cure(lab, Suspicion(1.0, "told", ["encoder"], {"norm": "encoder"}))
    apart, stacked = lab.gradients, lab.gradients_under(change)
    assert stacked.loss == pytest.approx(apart.loss, rel=1e-5)
    for name, gradient in apart.of.items():
        assert torch.allclose(stacked.of[name], gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("encode", [PairNet.encode, lambda self, *xs: torch.stack([self.encoder(x) for x in xs], 1)])
def test_unmix_under_batch_norm_is_left_alone_stacked_or_not(encode, monkeypatch):
    monkeypatch.setattr(PairNet, "encode", encode)
    subject = from_task("unmix", {"encoder.norm": "batch", "size": "32"}, 0, "cpu")
    diagnosis = examined(subject, only=ONLY)
    is_left_alone(diagnosis, ID)
    assert {c.id: c.status for c in diagnosis.checks}["calls-alike"] == "pass"
