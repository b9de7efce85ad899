"""A run of four steps at a tenth of the rate, after which the verdict is read."""

import warnings

from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner

from diagnose.changes import scaled_rate
from diagnose.faults import Fault

STEPS = 4


class BrokenOffEarly(Fault):
    """Fits for four steps and stops there."""

    cause = "steps-too-few"

    def inject(self, learn: Learner) -> None:
        with warnings.catch_warnings(), learn.no_bar(), learn.no_logging():
            warnings.simplefilter("ignore")
            learn.fit(1, scaled_rate(learn.lr, 0.1), cbs=_StopAt(STEPS))
        learn.opt = None


class _StopAt(Callback):
    order = 60  # after the recorder

    def __init__(self, steps: int):
        self.steps = steps

    def after_batch(self) -> None:
        if self.training and len(self.learn.recorder.losses) >= self.steps:
            raise CancelFitException
