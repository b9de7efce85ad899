"""Every item shows the picture of the first one, under its own label: a wrong index."""

from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed


class SameItem(Fault):
    """Replaces the inputs of all items by those of the first training item."""

    cause = "inputs-constant"

    def inject(self, learn: Learner) -> None:
        _, n, item = indexed(learn, 0)
        first = list(item[:n])

        def same(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return first, targets

        alter(learn, same)
