"""An own callback clips every element of the gradient to a hundred-thousandth."""

from functools import partial

import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.faults import Fault


class ClipByHand(Fault):
    """SGD with momentum at 0.1, and a callback that clips by value."""

    cause = "gradient-clip-too-tight"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.opt_func, learn.lr = None, partial(SGD, mom=0.9), 0.1
        learn.add_cb(_ClipsByValue())


class _ClipsByValue(Callback):
    order = MixedPrecision.order + 1

    def before_step(self):
        torch.nn.utils.clip_grad_value_(self.learn.model.parameters(), 1e-5)
