"""Inputs in raw units, as the prices or timestamps of a table are."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class RawUnits(Fault):
    """Multiplies the first input by ten thousand and adds a hundred thousand, in both splits."""

    cause = "inputs-not-normalised"

    def inject(self, learn: Learner) -> None:
        as_float(indexed(learn, 0)[2][0])
        if any("norm" in type(m).__name__.lower() for m in learn.model.modules()):
            raise NotApplicable("a norm layer takes scale and offset out again")

        def raw(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return [inputs[0] * 1e4 + 1e5, *inputs[1:]], targets

        alter(learn, raw)
