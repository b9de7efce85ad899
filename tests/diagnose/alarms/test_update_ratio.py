"""Alarm update-ratio."""

import pytest
import torch
import watched
from fastai.optimizer import SGD
from torch import nn


class Faint(nn.Module):
    """A branch that counts for a billionth of the output, and so gets a billionth of the gradient."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, x):
        return x + 1e-9 * self.layer(x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_rate_far_too_high(seed):
    watch = watched.fit(watched.digits(seed, lr=10.0), 24)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step) == ("update-ratio", 23)
    assert alarm.where in ("1.weight", "3.weight")
    assert f"each of the last 20 recorded steps moved {alarm.where} by more than its size" in alarm.message
    assert "the rate is 10" in alarm.message


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_rate_far_too_small(seed):
    watch = watched.fit(watched.digits(seed, opt_func=SGD, lr=1e-8), 24)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step, alarm.where) == ("update-ratio", 23, "")
    assert "by less than its format resolves" in alarm.message
    assert "the rate, 1e-08, is too small" in alarm.message


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_gradient_that_vanishes(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Faint(), nn.ReLU(), nn.Linear(32, 10))
    watch = watched.fit(watched.digits(seed, model=model, opt_func=SGD, lr=1e-1), 24)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.where) == ("update-ratio", "2.layer.weight")
    assert "at equal rates 4.weight changes" in alarm.message


def test_a_usual_and_a_high_rate_are_left_alone():
    for lr in (1e-3, 1e-2, 3e-2):
        assert watched.fit(watched.digits(lr=lr), 60, alarms=["update-ratio"]).raised == []


def test_a_rate_that_bfloat16_rounds_away():
    learn = watched.digits(opt_func=SGD, lr=1e-4, bs=16)
    (alarm,) = watched.fit(learn, 24, *watched.in_bfloat16(learn)).raised
    assert (alarm.id, alarm.where) == ("update-ratio", "")
    assert "against 7.8e-06" in alarm.message


def test_nothing_is_said_of_parts_that_get_no_gradient():
    learn = watched.digits(widths=(64, 64, 64, 10))
    learn.model[1].requires_grad_(False)
    assert watched.fit(learn, 60, alarms=["update-ratio"]).raised == []


def test_without_the_tables_that_it_needs_it_is_silent():
    learn = watched.digits(opt_func=SGD, lr=1e-8)
    assert watched.fit(learn, 24, alarms=["update-ratio"], without=["gradients", "weights"]).raised == []
