"""Targets in raw units: thousands, with an offset of ten thousand."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, as_float, indexed


class TargetsInRawUnits(Fault):
    """Multiplies floating-point targets by a thousand and adds ten thousand, in both splits."""

    cause = "targets-not-scaled"

    def inject(self, learn: Learner) -> None:
        loader, n, item = indexed(learn, 0)
        as_float(item[n])
        some = [loader.dataset[i][n] for i in range(min(len(loader.dataset), 64))]
        if all(float(t.min()) >= 0 and float(t.max()) <= 1 for t in some):
            raise NotApplicable("the targets are probabilities or flags")

        def raw(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, [targets[0] * 1e3 + 1e4, *targets[1:]]

        alter(learn, raw)
