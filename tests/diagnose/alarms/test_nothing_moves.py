"""Alarm nothing-moves."""

import copy

import pytest
import watched
from fastai.optimizer import SGD


@pytest.mark.parametrize("widths", [(64, 32, 10), (64, 600, 10)], ids=["small", "sampled"])
def test_an_optimizer_of_another_model(widths):
    learn = watched.digits(widths=widths)
    learn.create_opt()
    learn.model = copy.deepcopy(learn.model)
    watch = watched.fit(learn, 24)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step, alarm.where) == ("nothing-moves", 23, "")
    assert (
        "changed no bit of any of 4 trainable parameters, where each should, although there are gradients"
        in alarm.message
    )


def test_gradients_that_are_all_zero():
    learn = watched.digits(widths=(64, 600, 10), opt_func=SGD)
    zero = watched.At("after_backward", lambda learn: [p.grad.zero_() for p in learn.model.parameters()])
    (alarm,) = watched.fit(learn, 24, zero).raised
    assert alarm.id == "nothing-moves"
    assert "and every gradient is zero or missing" in alarm.message


def test_steps_that_sixteen_bits_round_away():
    learn = watched.digits(opt_func=SGD, lr=1e-6, bs=16)  # 40 steps are less than an epoch
    watch = watched.fit(learn, 40, *watched.in_bfloat16(learn))
    assert watched.ids(watch) == ["nothing-moves"]


def test_a_frozen_body_is_not_asked_to_move():
    learn = watched.digits(opt_func=SGD)
    learn.model[1].requires_grad_(False)
    assert watched.fit(learn, 40, alarms=["nothing-moves"]).raised == []


def test_a_rate_of_zero_is_not_judged():
    assert watched.fit(watched.digits(), 40, lr=0.0, alarms=["nothing-moves"]).raised == []
