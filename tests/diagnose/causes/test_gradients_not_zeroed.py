"""Gradients that stay are named, where one batch is learned all the same too; gradients that are gathered are not."""

from fastai.callback.core import Callback, CancelBatchException
from learners import diabetes, digits
from naming import CauseTests
from odd_subjects import clipped_and_accumulated

ID = "gradients-not-zeroed"


class Gathers(Callback):
    "Steps at every second batch, by hand: what is left of the first is meant."

    def after_backward(self):
        if not self.learn.train_iter % 2:
            raise CancelBatchException


NAMED = [("zero-grad-missing", digits), ("zero-grad-overridden", digits), ("zero-grad-overridden", diabetes)]
HEALTHY = {"accumulated": clipped_and_accumulated, "gathered by hand": lambda seed: digits(seed, cbs=Gathers())}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
