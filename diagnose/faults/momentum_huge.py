"""Gradient descent with a momentum of 0.999."""

from functools import partial

from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.faults import Fault


class MomentumHuge(Fault):
    """SGD at 0.1, which learns with a momentum of 0.9, and 0.999 in its place."""

    cause = "momentum-too-high"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.opt_func, learn.lr = None, partial(SGD, mom=0.999), 0.1
