"""Inputs divided by 255 three times over: where they are read, in a transform, and once more in the data set."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class InputsDividedAgain(Fault):
    """Divides the first input by 255 three times over, in both splits."""

    cause = "inputs-not-normalised"

    def inject(self, learn: Learner) -> None:
        as_float(indexed(learn, 0)[2][0])
        if any("norm" in type(m).__name__.lower() for m in learn.model.modules()):
            raise NotApplicable("a norm layer takes the scale out again")

        def divided(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return [inputs[0] / 255**3, *inputs[1:]], targets

        alter(learn, divided)
