"""What the faults of random numbers share: items with noise from numpy's global stream, read by two workers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.learner import Learner

from diagnose.faults._items import alter, as_float, indexed


def noisy_workers(learn: Learner, begin: Callable[[], None]) -> None:
    """Adds a little noise to training items, and lets two workers start with `begin`. Raises NotApplicable."""
    loader, _, item = indexed(learn, 0)
    as_float(item[0])

    def noisy(inputs: list[Any], targets: list[Any], i: int) -> tuple[list[Any], list[Any]]:
        drawn = np.random.standard_normal(tuple(inputs[0].shape))  # noqa: NPY002 - the stream that workers copy
        return [inputs[0] + 0.01 * torch.as_tensor(drawn).to(inputs[0]), *inputs[1:]], targets

    alter(learn, noisy, splits=(0,))
    loader.fake_l.num_workers = 2
    loader.wif = begin
