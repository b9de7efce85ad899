"""Validation has every second class only, and numbers them by itself, as `ImageFolder` does."""

from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import Altered, indexed, labels, like


class ValidationRenumbered(Fault):
    """Leaves every second class in validation, renumbered from 0; both data sets tell their class names."""

    cause = "labels-misaligned-between-splits"

    def inject(self, learn: Learner) -> None:
        known, held = sorted(set(labels(learn, 0))), labels(learn, 1)
        left = known[1::2]
        if len(left) < 2 or not set(held) & set(left):
            raise NotApplicable("it takes four classes")
        vocabulary = getattr(learn.dls, "vocab", None) if hasattr(learn.dls, "vocab") else None
        names = [str(vocabulary[k]) if vocabulary is not None else f"class {k}" for k in known]
        new = {old: i for i, old in enumerate(left)}

        def renumbered(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
            return inputs, [like(targets[0], new[int(targets[0])])]

        train, n, _ = indexed(learn, 0)
        train.dataset = Altered(train.dataset, n)
        train.dataset.class_to_idx = dict(zip(names, known))
        valid, n, _ = indexed(learn, 1)
        chosen = [i for i, label in enumerate(held) if label in new]
        valid.dataset = Altered(valid.dataset, n, renumbered, chosen)
        valid.dataset.class_to_idx = {names[known.index(old)]: i for old, i in new.items()}
        valid.n = len(chosen)
