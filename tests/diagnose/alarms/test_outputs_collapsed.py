"""Alarm outputs-collapsed."""

import torch
import watched
from torch import nn


class Ignores(nn.Module):
    """Multiplies its input by zero from a pass on: nothing of it reaches the output."""

    def __init__(self, passes: int = 0):
        super().__init__()
        self.left = passes

    def forward(self, x):
        self.left -= self.training
        return x if self.left >= 0 else x * 0


class Encoded(nn.Module):
    """An encoder that is well, and a head that does not look at it."""

    def __init__(self, passes: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh())
        self.head = nn.Sequential(Ignores(passes), nn.Linear(32, 10))

    def forward(self, x):
        return self.head(self.encoder(x))


def ignoring(passes=0):
    torch.manual_seed(0)
    return Encoded(passes)


def test_an_input_that_does_not_reach_the_output():
    watch = watched.fit(watched.digits(model=ignoring()), 40)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step, alarm.where) == ("outputs-collapsed", 19, "")
    assert "the same for every item, to 1e-06 of their size, in the last 24 recorded steps" in alarm.message


def test_a_collapse_in_the_middle_of_the_run():
    watch = watched.fit(watched.digits(model=ignoring(20)), 60)
    assert [(a.id, a.step) for a in watch.raised] == [("outputs-collapsed", 39)]


def test_steps_at_rate_zero_do_not_count():
    learn = watched.digits(model=ignoring())
    assert watched.fit(learn, 60, lr=0.0, alarms=["outputs-collapsed"]).raised == []


def test_no_batch_of_one_item_is_judged():
    learn = watched.digits(model=ignoring(), bs=1)
    assert watched.fit(learn, 60, alarms=["outputs-collapsed"]).raised == []
