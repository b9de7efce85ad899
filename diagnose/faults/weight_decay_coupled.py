"""Torch's Adam with a weight decay of 10, an L2 term that drowns the gradient of the loss."""

from functools import partial

import torch
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper

from diagnose.faults import Fault


class WeightDecayCoupled(Fault):
    """Steps by torch.optim.Adam, whose decay goes through the moments."""

    cause = "weight-decay-too-high"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.wd = None, 10.0
        learn.opt_func = partial(OptimWrapper, opt=torch.optim.Adam)
