"""An own callback clips every element of the gradient to next to nothing.

A hundred-thousandth where there are three thousand elements, and less of more: what is left are their signs, and a step
along the signs of a gradient lowers the loss the more the more there are."""

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
        params = [p for p in self.learn.model.parameters() if p.grad is not None]
        count = sum(p.numel() for p in params)
        torch.nn.utils.clip_grad_value_(params, 0.03 / max(count, 1))
