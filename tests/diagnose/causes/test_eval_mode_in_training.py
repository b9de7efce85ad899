"""Norms that never measure anything are named; frozen ones and those with measured statistics are not."""

from fastai.callback.core import Callback
from learners import digits
from naming import CauseTests
from odd_subjects import frozen_body
from torch import nn

ID = "eval-mode-in-training"
ONLY = (
    "overfit-one-batch",
    "modes-in-fit",
)


class NormsToEval(Callback):
    def before_batch(self):
        for module in self.learn.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def pretrained(seed):
    learn = digits(seed)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    learn.opt = None
    learn.add_cb(NormsToEval())
    return learn


class DropsAlways(Callback):
    def before_batch(self):
        for module in self.learn.model.modules():
            if isinstance(module, nn.Dropout):
                module.train()


def monte_carlo(seed):
    return digits(seed, dropout=0.1, cbs=DropsAlways())


NAMED = [("eval-in-callback", digits)]
HEALTHY = {"frozen": frozen_body, "pretrained statistics": pretrained, "drop-out while validating": monte_carlo}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
    numbers = False
