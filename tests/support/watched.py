"""Short watched fits of small Learners, for a number of steps and by a clock of their own."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import learners
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from torch import nn

from diagnose.watch import Watch


def clock(tick: float = 1e-3) -> SimpleNamespace:
    """Stands for the `time` module: a millisecond passes whenever it is asked, and `wait` seconds when told to."""
    state = SimpleNamespace(now=0.0)

    def ask() -> float:
        state.now += tick
        return state.now

    def wait(seconds: float) -> None:
        state.now += seconds

    return SimpleNamespace(perf_counter=ask, monotonic=ask, wait=wait)


class StopAfter(Callback):
    """Ends the fit after so many training batches."""

    order = 100

    def __init__(self, steps: int):
        self.steps = steps

    def before_fit(self):
        self.count = 0

    def after_batch(self):
        if self.training:
            self.count += 1
            if self.count == self.steps:
                raise CancelFitException


class At(Callback):
    """Calls a function of the Learner at an event of every step, or of some steps."""

    def __init__(self, event: str, function, steps=None, order: int = 0):
        self.function, self.steps, self.order = function, steps, order
        setattr(self, event, self._act)

    def _act(self):
        if self.learn.training and (self.steps is None or self.learn.train_iter in self.steps):
            self.function(self.learn)


def fit(learn: Learner, steps: int, *cbs: Callback, lr: float | None = None, **settings) -> Watch:
    """Train for so many steps, every one recorded, and give the Watch."""
    watch = Watch(**{"every": 1, **settings})
    with learn.no_bar(), learn.no_logging():
        learn.fit(-(-steps // len(learn.dls.train)), lr, cbs=[watch, StopAfter(steps), *cbs])
    return watch


def in_bfloat16(learn: Learner) -> list[Callback]:
    """Turn the weights of a model into bfloat16; what casts inputs and outputs. For fits of less than an epoch."""
    learn.model.bfloat16()
    return [
        At("before_batch", lambda learn: setattr(learn, "xb", tuple(x.bfloat16() for x in learn.xb))),
        At("after_pred", lambda learn: setattr(learn, "pred", learn.pred.float())),
    ]


def ids(watch: Watch) -> list[str]:
    """Ids of the alarms raised, in order."""
    return [r.id for r in watch.raised]


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Flatten, then linear layers of these widths with an activation between."""
    pairs = [[nn.Linear(a, b), act()] for a, b in itertools.pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *itertools.chain(*pairs[:-1]), pairs[-1][0])


def digits(seed: int = 0, widths: tuple[int, ...] = (64, 32, 10), **kwargs) -> Learner:
    """Handwritten digits by an MLP."""
    torch.manual_seed(seed)
    model = kwargs.pop("model", None) or mlp(*widths)
    return learners.digits(seed, model=model, **{"metrics": [], **kwargs})
