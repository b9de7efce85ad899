"""Items differ by a ten-thousandth beside what they have in common: a background that was never subtracted."""

from typing import Any

import torch
from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class FaintDifferences(Fault):
    """Adds one fixed pattern to every first input, beside which it is a ten-thousandth in size."""

    cause = "inputs-constant"

    def inject(self, learn: Learner) -> None:
        first = as_float(indexed(learn, 0)[2][0])
        pattern = torch.randn(first.shape, generator=torch.Generator().manual_seed(0)).to(first)

        def faint(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return [pattern + 1e-4 * inputs[0], *inputs[1:]], targets

        alter(learn, faint)
