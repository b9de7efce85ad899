"""A subset of 32 items that is meant to be memorised, shifted at random with its label at every reading."""

import random
from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed, labels, like

ITEMS = 32


class TinySubsetRedrawn(Fault):
    """Leaves 32 training pictures, rolled by random steps in both directions, of which the class index depends."""

    cause = "items-nondeterministic"

    def inject(self, learn: Learner) -> None:
        first = as_float(indexed(learn, 0)[2][0])
        classes = max(labels(learn, 0)) + 1
        if first.ndim < 2 or classes < 4:
            raise NotApplicable("it takes pictures of four classes")

        def shifted(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            down, right = random.randrange(first.shape[-2]), random.randrange(first.shape[-1])
            label = (int(targets[0]) + down + 3 * right) % classes
            return [inputs[0].roll((down, right), (-2, -1)), *inputs[1:]], [like(targets[0], label)]

        alter(learn, shifted, splits=(0,), indices=list(range(ITEMS)))
        loader = learn.dls.loaders[0]
        loader.bs = min(loader.bs, ITEMS // 2)
