"""loss-gradient-slope: F24, a norm without its square that is called a mean square."""

import pytest
import torch
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import diabetes
from torch import nn

from diagnose.errors import NotApplicable

ID = "loss-gradient-slope"


class PairwiseLossReduction(nn.Module):
    "The un-squared norm of the error of each row."

    def forward(self, out, y):
        return nn.functional.pairwise_distance(out, y, eps=0).mean()


class CalledMSE(PairwiseLossReduction):
    "The same under a name that says something else."


@pytest.mark.parametrize(("loss", "power"), [(nn.MSELoss(), "power of 2 "), (nn.L1Loss(), "power of 1:")])
def test_both_slopes_are_healthy(loss, power):
    status, summary = judged(ID, diabetes(loss_func=loss))
    assert status == "pass"
    assert power in summary


def test_f24_norm_without_its_square_is_told():
    status, summary = judged(ID, diabetes(loss_func=PairwiseLossReduction()))
    assert status == "pass"
    assert "power of 1: its gradient does not shrink" in summary
    evidence = measured(ID, diabetes(loss_func=PairwiseLossReduction()))
    near, far = (e.value for e in evidence.all("gradient"))
    assert near == pytest.approx(far, rel=1e-2)


def test_f24_norm_that_is_called_a_square():
    status, summary = judged(ID, diabetes(loss_func=CalledMSE()))
    assert status == "warn"
    assert "power of 1, not as its square, as the name CalledMSE says" in summary


class RaisedMSE(CalledMSE):
    "The same, and never below three."

    def forward(self, out, y):
        return super().forward(out, y) + 3


def test_a_floor_above_zero_hides_no_norm():
    status, summary = judged(ID, diabetes(loss_func=RaisedMSE()))
    assert status == "warn"
    assert "power of 1, not as its square" in summary


class LimitedMSE(nn.Module):
    "The mean square, of outputs that it squashes into [0.5, 1] itself."

    def forward(self, out, y):
        return (0.5 + 0.5 * out.sigmoid() - y).square().mean()


@pytest.mark.parametrize("seed", [3, 11, 14])  # those in which every step from the target happens to lead uphill
def test_square_of_what_the_loss_squashes_itself(seed):
    learn = diabetes(loss_func=LimitedMSE())
    for dl in learn.dls.loaders:
        x, y = dl.dataset.tensors
        dl.dataset.tensors = (x, 0.5 + 0.5 * y.sigmoid())
    with pytest.raises(NotApplicable, match="least loss"):
        measured(ID, learn, seed)


def test_loss_that_the_target_does_not_minimise():
    learn = diabetes(loss_func=nn.BCEWithLogitsLoss())
    for dl in learn.dls.loaders:
        x, y = dl.dataset.tensors
        dl.dataset.tensors = (x, (y > 0).float())
    with pytest.raises(NotApplicable, match="least loss"):
        measured(ID, learn)
    assert torch.is_grad_enabled()


def test_judge():
    evidence = measured(ID, diabetes())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
