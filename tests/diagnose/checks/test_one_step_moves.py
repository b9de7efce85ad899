"""one-step-moves: F18, freezes that do not freeze."""

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler, SchedCos, SchedLin, combine_scheds
from fastai.callback.training import BnFreeze, GradientAccumulation
from judging import check_of, judge_never_raises, judged, measured, nan_never_passes, passes_as_odd
from learners import diabetes, digits, small_cnn
from torch import nn

ID = "one-step-moves"


class PutsBack(Callback):
    "Undoes every step of the first layer."

    def before_step(self):
        self.kept = [p.detach().clone() for p in self.learn.model[0].parameters()]

    def after_step(self):
        with torch.no_grad():
            for p, was in zip(self.learn.model[0].parameters(), self.kept):
                p.copy_(was)


def frozen_body(**kwargs):
    model = small_cnn()
    model[0].requires_grad_(False)
    return digits(model=model, **kwargs)


def test_frozen_body_with_its_statistics_kept():
    status, summary = judged(ID, frozen_body(cbs=BnFreeze()))
    assert status == "pass"
    assert "none of 4 frozen ones did" in summary


def test_accumulated_gradients_step_later():
    assert judged(ID, digits(cbs=GradientAccumulation(128))).status == "pass"


def test_f18_requires_grad_set_on_a_module():
    learn = digits()
    learn.model[0].requires_grad = False
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "12 parameter tensors train" in summary
    assert "on 0 " in summary


def test_running_statistics_of_a_frozen_body_drift_and_cost_nothing():
    looks = "a freeze that does not freeze: 2 buffers of frozen modules moved"
    summary = passes_as_odd(ID, frozen_body(), looks, "evaluation mode")
    assert "0.1.running_mean" in summary
    assert "is fine because evaluation mode" in summary


def test_f18_drift_that_spoils_evaluation_mode():
    learn = frozen_body()
    learn.model[0][1].momentum = 1e-4  # the statistics move, and never get to where the data are
    learn.model[0][1].running_var.fill_(1e-6)
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "0.1.running_mean" in summary
    assert "evaluation mode" in summary


def test_a_norm_put_into_evaluation_mode_by_hand_is_put_back_by_fit():
    learn = frozen_body()
    learn.model[0].eval()
    status, summary = judged(ID, learn)
    assert status == "warn"
    assert "0.1 was in evaluation mode, and `fit` put it back" in summary


def scheduled(schedule):
    return digits(lr=5e-3, cbs=ParamScheduler({"lr": schedule}))


def test_warm_up_from_zero():
    schedule = combine_scheds([0.1, 0.9], [SchedLin(0.0, 5e-3), SchedCos(5e-3, 1e-5)])
    moved = "12 of 12 trainable tensors moved in 16 steps"
    summary = passes_as_odd(ID, scheduled(schedule), "an optimizer that does not step", moved)
    assert "the first step has a learning rate of 0; is fine because the schedule raises it to 0.0049" in summary


@pytest.mark.parametrize(
    ("highest", "says"), [(0.0, "have a gradient and did not move"), (5e-6, "reaches 4.69e-06 in the plan")]
)
def test_warm_up_that_never_leaves_zero(highest, says):
    status, summary = judged(ID, scheduled(SchedLin(0.0, highest)))
    assert status == "warn"
    assert says in summary


class Taught(nn.Module):
    "A net and a frozen copy of it, which starts elsewhere."

    def __init__(self):
        super().__init__()
        self.net, self.teacher = small_cnn(), small_cnn().requires_grad_(False)

    def forward(self, x):
        return self.net(x) + 0 * self.teacher(x).detach()


class Moves(Callback):
    "After each step every frozen tensor goes a share of the way to its counterpart, or astray."

    def __init__(self, share, astray=0.0):
        self.share, self.astray = share, astray

    def after_step(self):
        with torch.no_grad():
            for slow, fast in zip(self.learn.model.teacher.parameters(), self.learn.model.net.parameters()):
                slow.lerp_(fast, self.share)
                slow += self.astray * torch.randn_like(slow)


@pytest.mark.parametrize("share", [0.1, 0.001, 1.0])
def test_teacher_by_moving_average(share):
    fine = f"each goes {share:.2g} of the way to a tensor that trains"
    passes_as_odd(ID, digits(model=Taught(), cbs=Moves(share)), "12 frozen tensors that move", fine)


def test_frozen_tensors_that_follow_nothing():
    status, summary = judged(ID, digits(model=Taught(), cbs=Moves(0.1, astray=0.1)))
    assert status == "warn"
    assert "of 12 frozen tensors moved" in summary


def test_parameter_that_the_optimizer_does_not_move():
    status, summary = judged(ID, diabetes(cbs=PutsBack()))
    assert status == "warn"
    assert "2 of 6" in summary


def test_unused_buffer_of_a_model_without_norms():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_buffer("mean", torch.zeros(3))
    assert judged(ID, digits(model=model)).status == "pass"


def test_judge():
    evidence = measured(ID, digits())
    judge_never_raises(ID, evidence)
    poisoned = type(evidence)(
        e.model_copy(update={"value": float("nan")}) if e.name == "trainable that moved" else e for e in evidence
    )
    assert check_of(ID).judge(poisoned).status != "pass"
    nan_never_passes(ID, poisoned)
