"""Alarm loss-at-best-constant."""

import math

import learners
import pytest
import torch
import watched
from torch import nn

ONLY = {"alarms": ["loss-at-best-constant"]}


def mixed_labels(learn):
    learn.yb = (learn.yb[0][torch.randperm(len(learn.yb[0]))],)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_that_do_not_belong_to_the_inputs(seed):
    watch = watched.fit(watched.digits(seed, lr=1e-3), 240, watched.At("before_batch", mixed_labels))
    (alarm,) = watch.raised
    assert (alarm.id, alarm.where) == ("loss-at-best-constant", "")
    assert f"that of the best constant answer is 2.{'30'}"[:-1] in alarm.message
    constant = float(alarm.message.split("best constant answer is ")[1].split(" ")[0])
    assert constant == pytest.approx(math.log(10), abs=0.01)


def test_regression_of_targets_that_the_inputs_do_not_tell():
    learn = learners.diabetes(0, lr=1e-3)
    watch = watched.fit(learn, 400, watched.At("before_batch", mixed_labels), **ONLY)
    (alarm,) = watch.raised
    constant = float(alarm.message.split("best constant answer is ")[1].split(" ")[0])
    assert constant == pytest.approx(1.0, abs=0.1)  # the variance of standardised targets


def test_a_loss_on_probabilities_is_asked_about_probabilities():
    watch = watched.fit(learners.probabilities(0), 240, watched.At("before_batch", mixed_labels), **ONLY)
    (alarm,) = watch.raised
    assert "that of the best constant answer is 0.69" in alarm.message


def test_batches_of_different_sizes():
    """Noise for targets at every place of pictures that are 8 or 6 wide in turn."""

    def crop(learn):
        width = 8 - 2 * (learn.train_iter % 2)
        learn.xb, learn.yb = (learn.xb[0][..., :width],), (torch.randint(0, 10, (16, 8, width)),)

    torch.manual_seed(0)
    learn = watched.digits(model=nn.Conv2d(1, 10, 1), loss_func=nn.CrossEntropyLoss(), bs=16, lr=3e-2)
    learn.dls.loaders[1] = []  # its targets are classes
    (alarm,) = watched.fit(learn, 240, watched.At("before_batch", crop), **ONLY).raised
    constant = float(alarm.message.split("best constant answer is ")[1].split(" ")[0])
    assert constant == pytest.approx(math.log(10), abs=0.03)  # one answer a place, from 128 pictures


def test_it_is_not_raised_while_the_loss_falls():
    learn = watched.digits(lr=6e-5)  # from just above the best constant to just below
    watch = watched.fit(learn, 160, **ONLY)
    assert abs(watch.frame("steps")["loss"].tail(50).mean() - math.log(10)) < 0.046
    assert watch.raised == []


class NoConstant(nn.Module):
    """A loss that is the same for every output: nothing to compare with."""

    def forward(self, pred, y):
        return (pred * 0).sum() + 2.3


class Refuses(nn.Module):
    """A loss that does not take what is not the model's."""

    def forward(self, pred, y):
        if "Expand" in type(pred.grad_fn).__name__:
            raise KeyError("where does this come from?")
        return nn.functional.cross_entropy(pred, y)


@pytest.mark.parametrize("loss", [NoConstant(), Refuses()], ids=["no constant", "refuses"])
def test_losses_without_a_best_constant_are_left_alone(loss):
    learn = watched.digits(loss_func=loss, lr=1e-3)
    assert watched.fit(learn, 160, watched.At("before_batch", mixed_labels), **ONLY).raised == []


class Counting(nn.Module):
    """A loss with a state, a weight of its own, random numbers and an eye on the model's weights."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = [model], 0
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(10))

    def forward(self, pred, y):
        self.calls += 1
        self.seen += pred.detach().sum(0)
        noise = 1e-3 * torch.rand(())
        decay = sum(p.square().sum() for p in self.model[0].parameters())
        return nn.functional.cross_entropy(pred * self.temperature, y) + 1e-4 * decay + noise


@pytest.mark.parametrize("stateful", [False, True])
def test_the_run_is_the_same_with_and_without(stateful):
    def run(alarms):
        learn = watched.digits(0, lr=1e-3)
        if stateful:
            learn.loss_func = Counting(learn.model)
        watch = watched.fit(learn, 170, watched.At("before_batch", mixed_labels), alarms=alarms)
        return learn, watch, torch.rand(3)

    with_it, watch, random = run(True)
    without, _, other = run(False)
    assert watched.ids(watch) == ["loss-at-best-constant"]
    for (name, a), b in zip(with_it.model.state_dict().items(), without.model.state_dict().values()):
        assert torch.equal(a, b), name
    assert torch.equal(random, other)
    if stateful:
        assert with_it.loss_func.calls == without.loss_func.calls
        assert torch.equal(with_it.loss_func.seen, without.loss_func.seen)
        assert torch.equal(with_it.loss_func.temperature.grad, without.loss_func.temperature.grad)
