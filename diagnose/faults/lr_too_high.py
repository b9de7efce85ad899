"""The learning rate, ten thousand times as high."""

from fastai.learner import Learner

from diagnose.changes import scaled_rate
from diagnose.faults import Fault


class LrTooHigh(Fault):
    """Multiplies the learning rate."""

    cause = "lr-too-high"

    def inject(self, learn: Learner) -> None:
        learn.lr = scaled_rate(learn.lr, 1e4)
