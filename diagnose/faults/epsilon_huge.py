"""Adam with an epsilon of 100."""

from functools import partial

from fastai.learner import Learner
from fastai.optimizer import Adam

from diagnose.faults import Fault


class EpsilonHuge(Fault):
    """Adam, whose steps become those of plain gradient descent at a hundredth of the rate."""

    cause = "optimizer-epsilon-too-large"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.opt_func = None, partial(Adam, eps=100.0)
