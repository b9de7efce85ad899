"""Labels are in another order than their inputs: one of the two was shuffled alone."""

from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed
from diagnose.stats import same_bits


class LabelsShuffled(Fault):
    """Gives every item the targets of another one, in both splits, the same at every reading."""

    cause = "labels-uninformative"

    def inject(self, learn: Learner) -> None:
        for split in (0, 1):
            loader, n, item = indexed(learn, split)
            if any(same_bits(x, y) for x in item[:n] for y in item[n:] if _tensors(x, y)):
                raise NotApplicable("the target is the input itself: there are no labels")
            data = loader.dataset
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(split)).tolist()

            def moved(
                inputs: list[Any], targets: list[Any], i: int, data: Any = data, order: list[int] = order, n: int = n
            ) -> tuple[list[Any], list[Any]]:
                return inputs, list(data[order[i]][n:])

            alter(learn, moved, splits=(split,))


def _tensors(*values: Any) -> bool:
    return all(isinstance(v, Tensor) for v in values)
