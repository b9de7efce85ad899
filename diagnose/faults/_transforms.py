"""What the faults of augmentation share: pictures of fastai's type, and a random transform of the training batches."""

from __future__ import annotations

from typing import Any

from fastai.learner import Learner
from fastai.torch_core import TensorImage
from fastai.vision.augment import RandTransform
from fasttransform import Pipeline

from diagnose.errors import NotApplicable
from diagnose.faults._items import alter, as_float, class_label, indexed


def augmented(learn: Learner, transform: RandTransform) -> None:
    """Makes training pictures fastai's, and puts a random transform behind the loader's own. Raises NotApplicable."""
    loader, n, item = indexed(learn, 0)
    class_label(item, n)
    if as_float(item[0]).ndim != 3 or n != 1:
        raise NotApplicable("it takes one picture an item")

    def typed(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
        return [TensorImage(inputs[0])], targets

    alter(learn, typed, splits=(0,))
    before = list(getattr(loader.after_batch, "fs", []))
    loader.after_batch = Pipeline([*before, transform])
