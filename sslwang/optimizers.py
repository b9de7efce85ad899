"""Optimizers by name, for settings that name one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastai.optimizer import SGD, Adam, Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": partial(Adam, decouple_wd=True),
    "adam": partial(Adam, decouple_wd=False),
    "sgd": partial(SGD, mom=0.9),
}
