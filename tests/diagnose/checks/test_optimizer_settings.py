"""optimizer-settings: settings that cannot train are named with the number, odd but healthy ones pass."""

import math
from functools import partial

import pytest
import torch
from fastai.optimizer import SGD, Adam, Lamb, Lookahead, OptimWrapper, RAdam, RMSProp, ranger
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits, small_cnn
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "optimizer-settings"
NAMES = [
    *("parameter groups", "trainable tensors", "lr", "mom", "sqr_mom", "eps", "wd", "first step / weights"),
    *("median |gradient|", "first step / weights without eps"),
]


def wrapped(opt, **kwargs):
    return partial(OptimWrapper, opt=opt, **kwargs)


def two_groups(model):
    return [list(model[:2].parameters()), list(model[2:].parameters())]


class Quiet(nn.CrossEntropyLoss):
    "A loss whose gradients are about 1e-5, as those of large nets are."

    def forward(self, out, y):
        return super().forward(out, y) * 0.01


LOOK_ALIKES = {
    "SGD": lambda: digits(opt_func=partial(SGD, mom=0.9), lr=0.05),
    "RMSProp": lambda: digits(opt_func=RMSProp),
    "Lamb": lambda: digits(opt_func=Lamb),
    "RAdam": lambda: digits(opt_func=RAdam),
    "ranger": lambda: digits(opt_func=ranger),
    "Lookahead": lambda: digits(opt_func=lambda p, lr: Lookahead(Adam(p, lr=lr))),
    "AdamW of PyTorch": lambda: digits(opt_func=wrapped(torch.optim.AdamW)),
    "SGD of PyTorch": lambda: digits(opt_func=wrapped(torch.optim.SGD, momentum=0.9), lr=0.05),
    "AMSGrad of PyTorch": lambda: digits(opt_func=wrapped(torch.optim.Adam, amsgrad=True)),
    "slice of rates": lambda: digits(splitter=two_groups, lr=slice(1e-5, 1e-3)),
    "tiny rate": lambda: digits(lr=1e-6),
    "large eps made up for": lambda: digits(opt_func=partial(Adam, eps=0.1), lr=1.0),
    "large weight decay": lambda: digits(wd=1.0),
    "quiet loss, fastai's eps": lambda: digits(loss_func=Quiet()),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alike_passes(name):
    status, summary = judged(ID, LOOK_ALIKES[name]())
    assert status == "pass", summary


def test_f6_eps_above_the_gradients_is_warned_of():
    small = partial(digits, loss_func=Quiet(), lr=1e-5)
    assert judged(ID, small(opt_func=partial(Adam, eps=1e-8))).status == "pass"
    status, summary = judged(ID, small(opt_func=partial(Adam, eps=1e-3)))
    assert status == "warn"
    assert "eps 0.001 of group 0 is above the median absolute gradient" in summary
    assert judged(ID, small(opt_func=wrapped(torch.optim.Adam, eps=1e-3))).status == "warn"


BAD = {
    "zero": (lambda: digits(lr=0.0), "fail", "learning rate of all 1 groups is 0"),
    "negative": (lambda: digits(lr=-1e-3), "fail", "lr -0.001 of group 0"),
    "nan": (lambda: digits(lr=math.nan), "fail", "lr nan of group 0"),
    "momentum": (lambda: digits(opt_func=partial(SGD, mom=1.0)), "fail", "mom 1 of group 0, not in [0, 1)"),
    "beta": (lambda: digits(opt_func=partial(Adam, sqr_mom=1.0)), "fail", "sqr_mom 1 of group 0, not in [0, 1)"),
    "decay": (lambda: digits(lr=0.5, wd=3.0), "fail", "rate times weight decay 1.5 of group 0"),
    "strong decay": (lambda: digits(lr=0.1, wd=2.0), "warn", "loses 20% of each weight"),
    "huge rate": (lambda: digits(lr=10.0), "warn", "the first step moves group 0 by"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_setting_is_named(name):
    build, expected, words = BAD[name]
    status, summary = judged(ID, build())
    assert status == expected
    assert words in summary


def test_one_group_of_rate_zero_is_warned_of():
    learn = digits(splitter=two_groups, lr=[0.0, 1e-3])
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "group 0 has learning rate 0" in summary


def test_cut_graph_is_left_to_others():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_cnn()

        def forward(self, x):
            return self.body(x).detach()

    assert judged(ID, digits(model=Cut())).status == "pass"


@given(evidence_of(NAMES))
def test_judge_never_raises_and_nan_never_passes(evidence):
    result = check_of(ID).judge(evidence)
    assert is_judgement(result)
    groups = [e.where for e in evidence.all("trainable tensors") if isinstance(e.value, int) and e.value > 0]
    rates = [evidence.get("lr", g) for g in groups]
    if any(isinstance(r, float) and math.isnan(r) for r in rates):
        assert result.status != "pass"


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    trains = Evidence(name="trainable tensors", value=4, where="group 0")
    assert judge(EvidenceList([trains])).status == "fail"
    rate = Evidence(name="lr", value=1e-3, where="group 0")
    assert judge(EvidenceList([trains, rate])).status == "pass"
    step = Evidence(name="first step / weights", value=math.nan, where="group 0")
    assert judge(EvidenceList([trains, rate, step])).status == "warn"
