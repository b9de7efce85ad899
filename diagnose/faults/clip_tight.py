"""Gradients clipped to a length of one ten-thousandth, under gradient descent."""

from functools import partial

from fastai.callback.training import GradientClip
from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.faults import Fault


class ClipTight(Fault):
    """SGD with momentum at 0.1, and GradientClip(1e-4)."""

    cause = "gradient-clip-too-tight"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.opt_func, learn.lr = None, partial(SGD, mom=0.9), 0.1
        learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, GradientClip)])
        learn.add_cb(GradientClip(1e-4))
