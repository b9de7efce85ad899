"""A step that changes nothing is named; one that is skipped now and then is not."""

from fastai.callback.core import Callback, CancelStepException
from learners import diabetes, digits
from naming import CauseTests
from odd_subjects import clipped_and_accumulated

ID = "optimizer-not-stepping"


class EverySecond(Callback):
    def before_step(self):
        if self.learn.train_iter % 2:
            raise CancelStepException


NAMED = [("step-cancelled", digits), ("step-without-effect", diabetes)]
HEALTHY = {"every second step": lambda seed: digits(seed, cbs=EverySecond()), "accumulated": clipped_and_accumulated}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
