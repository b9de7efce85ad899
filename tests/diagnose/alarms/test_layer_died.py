"""Alarm layer-died."""

import torch
import watched
from torch import nn


class Beside(nn.Module):
    """A branch beside the path that works, so that the output survives its death."""

    def __init__(self, kind: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.layer, self.act, self.pool = nn.Linear(32, 32), kind(), nn.Dropout(0.1)

    def forward(self, x):
        return x + self.pool(self.act(self.layer(x)))


def two_ways(kind=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), Beside(kind), nn.Linear(32, 10))


def kill(learn, units=slice(None)):
    with torch.no_grad():
        learn.model[3].layer.bias[units] = -100


def test_dead_from_the_start():
    learn = watched.digits(model=two_ways())
    kill(learn)
    watch = watched.fit(learn, 136)
    (alarm,) = watch.raised
    assert (alarm.id, alarm.where) == ("layer-died", "3.act (ReLU)")
    assert alarm.step == 128  # the eighth batch that is read after the first step, every 16th
    assert "100% of the 32 units of 3.act (ReLU) gave zero for every item of the last 8 batches read" in alarm.message
    assert "so did 3.pool (Dropout) after it" in alarm.message


def test_dies_in_the_middle_with_few_units_left():
    learn = watched.digits(model=two_ways())
    watch = watched.fit(
        learn, 272, watched.At("before_batch", lambda learn: kill(learn, slice(0, 30)), range(114, 300))
    )
    assert watched.ids(watch)[:1] == ["layer-died"]
    alarm = watch.raised[0]
    assert alarm.where == "3.act (ReLU)"
    assert "94% of the 32 units" in alarm.message
    assert "against 6% in the fit's first window" in alarm.message


def test_most_units_silent_from_the_start_is_another_thing():
    learn = watched.digits(model=two_ways())
    kill(learn, slice(0, 30))
    assert watched.fit(learn, 136).raised == []


def test_a_leaky_layer_cannot_die():
    learn = watched.digits(model=two_ways(nn.LeakyReLU))
    kill(learn)
    assert watched.fit(learn, 136, alarms=["layer-died"]).raised == []


def test_a_layer_of_its_own_weights_that_starts_at_zero_is_not_dead():
    learn = watched.digits(model=two_ways(nn.Identity))
    nn.init.zeros_(learn.model[3].layer.weight)
    nn.init.zeros_(learn.model[3].layer.bias)
    assert watched.fit(learn, 136, lr=0.0, alarms=["layer-died"]).raised == []
