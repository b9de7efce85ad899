"""Every item has the label of the first one."""

from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed


class OneLabel(Fault):
    """Replaces all targets of both splits by those of the first training item."""

    cause = "labels-constant"

    def inject(self, learn: Learner) -> None:
        _, n, item = indexed(learn, 0)
        first = list(item[n:])

        def same(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, first

        alter(learn, same)
