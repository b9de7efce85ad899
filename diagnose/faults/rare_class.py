"""One class against all others, thinned to one in fifty items, under plain SGD."""

from typing import Any

from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import alter, labels, like

RARE = 0.02


class RareClass(Fault):
    """Makes the last class but one of ten a rare positive; Adam's steps would follow it sooner than those of SGD do."""

    cause = "labels-imbalanced"

    def inject(self, learn: Learner) -> None:
        held = labels(learn, 0)
        if max(held) < 9:
            raise NotApplicable("it takes ten classes, so that one against the others is rare")
        rare = [i for i, y in enumerate(held) if y == 8]
        others = [i for i, y in enumerate(held) if y != 8]
        kept = rare[: round(RARE * len(others))]
        if len(kept) < 20:
            raise NotApplicable("too few items for a class of one in fifty")

        def flag(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, [like(targets[0], int(int(targets[0]) == 8))]

        alter(learn, flag, splits=(0,), indices=sorted(others + kept))
        alter(learn, flag, splits=(1,))
        learn.opt_func, learn.lr, learn.opt = SGD, 0.02, None
