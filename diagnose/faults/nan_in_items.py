"""One item in twenty holds NaN in one place, as an empty cell of a table does."""

from typing import Any

import torch
from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class NanInItems(Fault):
    """Sets one value of the first input to NaN in every twentieth item."""

    cause = "inputs-nonfinite"
    value = torch.nan

    def inject(self, learn: Learner) -> None:
        as_float(indexed(learn, 0)[2][0])

        def spoiled(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            if i % 20 == 0:
                first = inputs[0].clone()
                first.view(-1)[i % first.numel()] = self.value
                inputs = [first, *inputs[1:]]
            return inputs, targets

        alter(learn, spoiled)
