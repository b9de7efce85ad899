"""Every worker sets numpy's seed to its own number: workers differ, and every epoch repeats the first."""

import numpy as np
from fastai.learner import Learner
from torch.utils.data import get_worker_info

from diagnose.faults import Fault
from diagnose.faults._noise import noisy_workers


class EpochsAlike(Fault):
    """Noise from numpy's global stream, which two workers start at 1 and 2."""

    cause = "loader-repeats-random-numbers"

    def inject(self, learn: Learner) -> None:
        noisy_workers(learn, _begin)


def _begin() -> None:
    info = get_worker_info()
    np.random.seed(1 + (info.id if info else 0))  # noqa: NPY002
