"""The gradients are never zeroed, under the subject's own optimizer."""

from functools import partial

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults.zero_grad_missing import never_zeroed


class ZeroGradOverridden(Fault):
    """Makes `zero_grad` of the optimizer that the Learner builds do nothing."""

    cause = "gradients-not-zeroed"

    def inject(self, learn: Learner) -> None:
        if callable(getattr(learn.opt_func, "clear_state", None)):
            raise NotApplicable("opt_func is an optimizer that was already built")
        learn.opt, learn.opt_func = None, partial(never_zeroed, learn.opt_func)
