"""The learning rate, a million times as low."""

from fastai.learner import Learner

from diagnose.changes import scaled_rate
from diagnose.faults import Fault


class LrTooLow(Fault):
    """Divides the learning rate."""

    cause = "lr-too-low"

    def inject(self, learn: Learner) -> None:
        learn.lr = scaled_rate(learn.lr, 1e-6)
