"""The trials that locate a fault: each points at it where it lies, and nowhere in a healthy subject."""

import math
from functools import partial

import pytest
import torch
from fastai.callback.training import GradientClip
from fastai.optimizer import SGD
from judging import check_of, judge_never_raises, judged, measured, nan_never_passes, passes
from learners import digits, heavy_dropout, small_cnn
from torch import nn

from diagnose.changes import learning_rate
from diagnose.checks.learning_rate_ladder import LearningRateLadder
from diagnose.checks.wider_narrower import resized
from diagnose.errors import NotApplicable
from diagnose.evidence import Evidence, EvidenceList
from diagnose.lab import Lab
from diagnose.subject import from_learner

COMPARED = [
    *("builtin-activation", "head-only", "larger-batch", "other-optimizer", "wider-narrower"),
    *("without-clipping", "without-dropout"),
]


class ZeroActivation(nn.Module):
    "A hand-written activation with a slip: nothing passes it."

    def forward(self, x):
        return x.clamp(max=0).clamp(min=0)


class Swish(nn.Module):
    "Hand-written and right."

    def forward(self, x):
        return x * torch.sigmoid(x)


def net(activation, width=64):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), activation, nn.Linear(width, 10))


@pytest.mark.parametrize("id", [*COMPARED, "overfit-few-dozen", "permuted-labels"])
def test_half_of_the_units_dropped_is_healthy(id):
    passes(id, heavy_dropout())


@pytest.mark.parametrize("id", COMPARED)
def test_judge_of_compared_trials(id):
    check = check_of(id)
    found = EvidenceList(
        [
            Evidence(name="change", value="another rate"),
            Evidence(name="learned", value=0.9, where="as it is"),
            Evidence(name="learned", value=0.95, where="changed"),
        ]
    )
    assert check.judge(found).status == "pass"
    judge_never_raises(id, found)
    nan_never_passes(id, found)

    def lifted(before, after):
        return check.judge(
            EvidenceList(
                [
                    Evidence(name="learned", value=before, where="as it is"),
                    Evidence(name="learned", value=after, where="changed"),
                ]
            )
        )

    assert lifted(0.1, 0.9).status == "warn"
    assert "learned 10% of one batch as it is" in lifted(0.1, 0.9).summary
    assert lifted(0.1, 0.2).status == "pass"
    assert lifted(math.nan, 0.9).status == "warn"
    assert lifted(0.9, math.nan).status == "skip"
    assert lifted(0.9, 0.0).status == "pass"


def test_activation_that_passes_nothing():
    status, summary = judged("builtin-activation", digits(model=net(ZeroActivation())))
    assert status == "warn"
    assert "LeakyReLU in place of 1 hand-written" in summary
    assert judged("builtin-activation", digits(model=net(Swish()))).status == "pass"


def test_nothing_hand_written():
    with pytest.raises(NotApplicable, match="no hand-written"):
        measured("builtin-activation", digits())


def test_f28_dropout_of_nearly_everything():
    status, summary = judged("without-dropout", digits(model=net(nn.Dropout(0.98))))
    assert status == "warn"
    assert "up to 0.98" in summary


def test_threshold_far_below_every_gradient():
    learn = digits(cbs=GradientClip(1e-5), opt_func=partial(SGD, mom=0.9), lr=0.05)
    status, summary = judged("without-clipping", learn)
    assert status == "warn"
    assert "GradientClip(1e-05) left out" in summary


def test_sgd_on_a_loss_of_another_scale():
    learn = digits(loss_func=nn.CrossEntropyLoss(reduction="sum"), opt_func=SGD, lr=3.0)
    assert judged("other-optimizer", learn).status == "warn"


def test_head_that_learns_while_the_whole_net_runs_away():
    status, summary = judged("head-only", digits(model=net(nn.ReLU()), lr=1.0))
    assert status == "warn"
    assert "only 3 trains" in summary


def test_width_that_makes_a_difference_is_told():
    status, summary = judged("wider-narrower", digits(model=net(nn.Tanh(), width=1), lr=3e-2))
    assert status == "warn"
    assert "hidden widths times 2" in summary


def test_loss_without_target_is_not_asked():
    with pytest.raises(NotApplicable, match="does not read"):
        measured("permuted-labels", digits(loss_func=lambda out, y: out.square().mean()))


def test_resized_shapes():
    for factor in (2.0, 0.5):
        model = resized(small_cnn(), factor)
        assert model(torch.rand(4, 1, 8, 8)).shape == (4, 10)
        assert model[0][0].out_channels == 16 * factor
    with pytest.raises(NotApplicable, match="no plain"):
        resized(nn.ModuleDict({"a": nn.Linear(2, 2)}), 2.0)


def test_f7_rows_known_in_training_mode_only():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=1e-4), nn.Linear(32, 10))
    with torch.no_grad():
        model[1].bias.add_(30.0)
    status, summary = judged("overfit-few-dozen", digits(model=model, lr=1e-2))
    assert status == "warn"
    assert "in evaluation mode" in summary


def test_the_ladder_reads_its_configured_rung_off_the_trial_that_all_share():
    learn = digits()
    lab = Lab(from_learner(learn), 0)
    found = LearningRateLadder().measure(lab)
    again = lab.trial(learning_rate(learn, 1.0), steps=60, scale=lab.scale)
    assert found.get("learned at the configured rate") == again.learned
    walked = [found.get(f"powers of ten walked {way}") for way in ("up", "down")]
    assert all(1 <= w <= 2 for w in walked), "a rate that learns is compared with its neighbours only"
