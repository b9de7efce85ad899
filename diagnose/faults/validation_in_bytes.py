"""Validation inputs are 255 times as large: one split is scaled to [0, 1], the other left in bytes."""

from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class ValidationInBytes(Fault):
    """Multiplies the first input of validation items by 255."""

    cause = "inputs-differ-between-splits"

    def inject(self, learn: Learner) -> None:
        as_float(indexed(learn, 1)[2][0])

        def bytes_(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return [inputs[0] * 255, *inputs[1:]], targets

        alter(learn, bytes_, splits=(1,))
