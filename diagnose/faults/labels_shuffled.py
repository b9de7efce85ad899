"""Labels are in another order than their inputs: one of the two was shuffled alone."""

from typing import Any

import torch
from fastai.learner import Learner

from diagnose.faults import Fault
from diagnose.faults._items import alter, indexed


class LabelsShuffled(Fault):
    """Gives every item the targets of another one, in both splits, the same at every reading."""

    cause = "labels-uninformative"

    def inject(self, learn: Learner) -> None:
        for split in (0, 1):
            loader, n, _ = indexed(learn, split)
            data = loader.dataset
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(split)).tolist()

            def moved(
                inputs: list[Any], targets: list[Any], i: int, data: Any = data, order: list[int] = order, n: int = n
            ) -> tuple[list[Any], list[Any]]:
                return inputs, list(data[order[i]][n:])

            alter(learn, moved, splits=(split,))
