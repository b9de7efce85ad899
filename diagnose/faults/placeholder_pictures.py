"""Every tenth item shows one and the same placeholder, under its own label: files that are missing."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, class_label, indexed


class PlaceholderPictures(Fault):
    """Replaces the first input of every tenth item by that of the first item."""

    cause = "labels-noisy"

    def inject(self, learn: Learner) -> None:
        _, n, item = indexed(learn, 0)
        class_label(item, n)
        first = as_float(item[0])
        if first.numel() < 64 or n > 1:
            raise NotApplicable("it takes one input of at least 64 numbers")

        def missing(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return ([first], targets) if i % 10 == 0 else (inputs, targets)

        alter(learn, missing)
