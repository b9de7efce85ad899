"""Every worker sets numpy's seed to the same number."""

import numpy as np
from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._noise import noisy_workers


class WorkersAlike(Fault):
    """Noise from numpy's global stream, which two workers start at 42."""

    cause = "loader-repeats-random-numbers"

    def inject(self, learn: Learner) -> None:
        noisy_workers(learn, _begin)


def _begin() -> None:
    np.random.seed(42)  # noqa: NPY002
