"""The gradients are never zeroed, under gradient descent with momentum."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class ZeroGradMissing(Fault):
    """Makes `zero_grad` of the optimizer do nothing."""

    cause = "gradients-not-zeroed"

    def inject(self, learn: Learner) -> None:
        if callable(getattr(learn.opt_func, "clear_state", None)):
            raise NotApplicable("opt_func is an optimizer that was already built")
        learn.opt, learn.opt_func, learn.lr = None, partial(never_zeroed, partial(SGD, mom=0.9)), 0.1


def never_zeroed(opt_func: Callable, params: Any, **kwargs: Any) -> Any:
    """An optimizer whose `zero_grad` does nothing."""
    opt = opt_func(params, **kwargs)
    opt.zero_grad = _nothing
    return opt


def _nothing() -> None:
    return None
