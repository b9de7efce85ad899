"""A warm-up for a hundred times as many steps as the run has."""

from fastai.callback.schedule import ParamScheduler
from fastai.learner import Learner

from diagnose.faults import Fault


class WarmupLongerThanTheRun(Fault):
    """Lets the rate rise from zero to a thousandth of the configured one over the whole plan."""

    cause = "schedule-starves"

    def inject(self, learn: Learner) -> None:
        rate = learn.lr.stop if isinstance(learn.lr, slice) else learn.lr
        learn.add_cb(ParamScheduler({"lr": _Rising(rate)}))


class _Rising:
    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, done: float) -> float:
        return self.rate * done / 1000
