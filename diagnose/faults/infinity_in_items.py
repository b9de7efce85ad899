"""One item in twenty holds infinity in one place, as the logarithm of zero does."""

import torch
from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults.nan_in_items import NanInItems


class InfinityInItems(Fault):
    """Sets one value of the first input to minus infinity in every twentieth item."""

    cause = "inputs-nonfinite"

    def inject(self, learn: Learner) -> None:
        spoiling = NanInItems()
        spoiling.value = -torch.inf
        spoiling.inject(learn)
