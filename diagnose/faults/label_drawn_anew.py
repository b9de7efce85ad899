"""The label is drawn anew at every reading, under the same input."""

import random
from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed


class LabelDrawnAnew(Fault):
    """Gives a training item the label of some other item, another one each time."""

    cause = "items-nondeterministic"

    def inject(self, learn: Learner) -> None:
        loader, n, _ = indexed(learn, 0)
        data = loader.dataset

        def drawn(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, list(data[random.randrange(len(data))][n:])

        alter(learn, drawn, splits=(0,))
