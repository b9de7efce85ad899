"""head-floor: a last layer that cannot give what the loss asks for, whatever it is given."""

import pytest
from judging import check_of, judge_never_raises, judged, measured, nan_never_passes
from learners import digits
from naming import fault_of
from torch import nn

from diagnose.errors import NotApplicable

ID = "head-floor"


def cosine(seed=0):
    learn = digits(seed)
    fault_of("cosine-head").inject(learn)
    return learn


@pytest.mark.parametrize("seed", [0, 1])
def test_a_cosine_without_a_scale_is_bounded(seed):
    status, summary = judged(ID, cosine(seed))
    assert status == "warn"
    assert "with any features, 3 can learn" in summary


@pytest.mark.parametrize("seed", [0, 1])
def test_a_linear_head_reaches_all_though_nothing_is_learned(seed):
    evidence = measured(ID, digits(seed, lr=1e-7))
    assert check_of(ID).judge(evidence).status == "pass"
    assert evidence.get("within reach", "3") >= 0.95


def test_a_head_drawn_as_zeros_reaches_all():
    learn = digits(lr=1e-7)
    for p in learn.model[3].parameters():
        nn.init.zeros_(p)
    assert judged(ID, learn).status == "pass"


def test_what_is_learned_is_not_asked():
    with pytest.raises(NotApplicable, match="the batch is learned"):
        measured(ID, digits())


def test_what_follows_the_head_is_not_judged():
    learn = digits(lr=1e-7)
    learn.model = nn.Sequential(learn.model, nn.Softplus())
    with pytest.raises(NotApplicable, match="something follows"):
        measured(ID, learn)


def test_numbers_alone():
    evidence = measured(ID, cosine())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
