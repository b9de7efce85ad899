"""A schedule that is over after a hundredth of the run, and stays at next to nothing."""

from fastai.callback.schedule import ParamScheduler, SchedCos, SchedNo, combine_scheds
from fastai.learner import Learner

from diagnose.faults import Fault


class RateAnnealedAtOnce(Fault):
    """Anneals the rate to a ten-thousandth within the first hundredth of the plan."""

    cause = "schedule-starves"

    def inject(self, learn: Learner) -> None:
        rate = learn.lr.stop if isinstance(learn.lr, slice) else learn.lr
        end = rate * 1e-4
        learn.add_cb(ParamScheduler({"lr": combine_scheds([0.01, 0.99], [SchedCos(rate, end), SchedNo(end, end)])}))
