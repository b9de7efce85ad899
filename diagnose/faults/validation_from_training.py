"""Every third validation item is a training item."""

from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed


class ValidationFromTraining(Fault):
    """Replaces every third validation item by a training item."""

    cause = "train-valid-leak"

    def inject(self, learn: Learner) -> None:
        loader, n, _ = indexed(learn, 0)
        training = loader.dataset

        def leaked(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            if i % 3:
                return inputs, targets
            item = training[i % len(training)]
            return list(item[:n]), list(item[n:])

        alter(learn, leaked, splits=(1,))
