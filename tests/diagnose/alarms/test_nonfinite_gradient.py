"""Alarm nonfinite-gradient."""

import pytest
import torch
import watched
from fastai.callback.core import CancelStepException
from fastai.callback.fp16 import MixedPrecision
from torch import nn


class Backwards(nn.Module):
    """Hands its input on; from a pass on the gradient of the first item is NaN, as behind a square root of 0."""

    def __init__(self, passes: int):
        super().__init__()
        self.left = passes

    def forward(self, x):
        self.left -= 1
        if self.left <= 0 and x.requires_grad:
            spoilt = torch.ones(len(x), 1)
            spoilt[0] = torch.nan
            x.register_hook(lambda gradient: gradient * spoilt)
        return x


def between(passes):
    return nn.Sequential(*watched.mlp(64, 32, 16), nn.ReLU(), Backwards(passes), nn.Linear(16, 10))


def test_names_the_parameter_nearest_to_where_it_began():
    watch = watched.fit(watched.digits(model=between(12)), 12)  # the weights of the next step would be NaN
    (alarm,) = watch.raised
    assert (alarm.id, alarm.step, alarm.where) == ("nonfinite-gradient", 11, "3.bias")
    assert "the gradient of 3.bias is not finite in 0.688 of its elements" in alarm.message
    assert "so is that of 3.weight, 1.bias, 1.weight" in alarm.message


def test_a_single_element_of_a_large_tensor_is_found_by_its_exact_norm():
    def spoil(learn):
        learn.model[1].weight.grad[3, 7] = torch.inf  # between the samples

    learn = watched.digits(widths=(64, 600, 10))
    watch = watched.fit(learn, 21, watched.At("after_backward", spoil, steps=[20]), alarms=["nonfinite-gradient"])
    assert [a.where for a in watch.raised] == ["1.weight"]
    rows = watch.frame("gradients").query("parameter == '1.weight' and step == 20")
    assert rows["nonfinite"].item() == 0


def test_a_step_that_a_callback_skips_raises_nothing():
    def skip(learn):
        raise CancelStepException

    steps = range(5, 9)
    passes = watched.At("after_backward", lambda learn: learn.model[1].weight.grad.fill_(torch.nan), steps)
    watch = watched.fit(watched.digits(), 12, passes, watched.At("before_step", skip, steps, order=50))
    assert watch.raised == []
    assert watch.frame("gradients")["nonfinite"].max() == 1  # it was seen, and not applied


class Overflowing(MixedPrecision):
    """Stands for float16 on a device that has it: the scaled loss overflows at one step, which is skipped."""

    def before_fit(self):
        pass

    before_batch = after_pred = after_loss = before_backward = before_fit

    def before_step(self):
        if self.train_iter == 6:
            self.learn.opt.zero_grad()
            raise CancelStepException

    def after_step(self):
        pass

    after_fit = after_step


def test_an_overflow_under_mixed_precision_raises_nothing():
    def overflow(learn):
        learn.model[1].weight.grad.fill_(torch.inf)

    watch = watched.fit(watched.digits(), 16, watched.At("after_backward", overflow, [6]), Overflowing())
    assert watch.raised == []
    assert watch.frame("steps")["outcome"].tolist()[6] == "cancelled"


@pytest.mark.parametrize("seed", [0, 1])
def test_large_gradients_are_finite(seed):
    watch = watched.fit(watched.digits(seed, lr=1e-9), 16, watched.At("after_backward", times_1e15))
    assert "nonfinite-gradient" not in watched.ids(watch)


def times_1e15(learn):
    for p in learn.model.parameters():
        p.grad.mul_(1e15)
