"""Validation inputs are normalised with the statistics of another data set."""

from typing import Any

from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class ValidationNormalisedOtherwise(Fault):
    """Subtracts 2 from the first input of validation items and multiplies it by 4.4, as ImageNet's statistics do."""

    cause = "inputs-differ-between-splits"

    def inject(self, learn: Learner) -> None:
        as_float(indexed(learn, 1)[2][0])

        def otherwise(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return [(inputs[0] - 2) * 4.4, *inputs[1:]], targets

        alter(learn, otherwise, splits=(1,))
