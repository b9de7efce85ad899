"""A freeze that does not freeze is named; a declared one, one by hand and a teacher by moving average are not."""

import torch
from fastai.callback.core import Callback
from learners import declared_freeze, diabetes, digits, small_cnn
from naming import CauseTests
from odd_subjects import frozen_body
from torch import nn

ID = "frozen-still-training"
ONLY = (
    "overfit-one-batch",
    "one-step-moves",
)


class Taught(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.teacher = small_cnn(), small_cnn().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) + 0 * self.teacher(x).detach()


class Follows(Callback):
    def after_step(self):
        pairs = zip(self.learn.model.teacher.parameters(), self.learn.model.net.parameters())
        for slow, fast in pairs:
            slow.data.lerp_(fast.data, 0.1)


def moving_average(seed):
    return digits(seed, model=Taught(), cbs=Follows())


NAMED = [("freeze-without-effect", digits), ("freeze-without-effect", diabetes)]
HEALTHY = {"declared": declared_freeze, "by hand": frozen_body, "moving average": moving_average}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
    numbers = False
