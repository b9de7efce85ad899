"""A weight decay ten thousand times the usual."""

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class WeightDecayHuge(Fault):
    """Sets a weight decay that takes a quarter of each weight at every step."""

    cause = "weight-decay-too-high"

    def inject(self, learn: Learner) -> None:
        rate = learn.lr.stop if isinstance(learn.lr, slice) else learn.lr
        if not rate:
            raise NotApplicable("the learning rate is 0")
        learn.wd = 0.25 / rate
