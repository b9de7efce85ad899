"""An optimizer whose step does nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class StepWithoutEffect(Fault):
    """Overrides `step` of the optimizer that the Learner builds, as an own optimizer that returns early does."""

    cause = "optimizer-not-stepping"

    def inject(self, learn: Learner) -> None:
        if callable(getattr(learn.opt_func, "clear_state", None)):
            raise NotApplicable("opt_func is an optimizer that was already built")
        learn.opt, learn.opt_func = None, partial(_build, learn.opt_func)


def _build(opt_func: Callable, params: Any, **kwargs: Any) -> Any:
    opt = opt_func(params, **kwargs)
    opt.step = _nothing
    return opt


def _nothing(closure: Any = None) -> None:
    return None
