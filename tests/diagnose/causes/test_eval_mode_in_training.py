"""Norms that never measure anything are named; frozen ones and those with measured statistics are not."""

import pytest
from fastai.callback.core import Callback
from learners import digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
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


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("fault", "subject"), NAMED)
def test_the_fault_is_named_first_and_proven(fault, subject, seed):
    is_named(with_fault(fault, subject(seed), seed, only=ONLY), ID)


@pytest.mark.parametrize("subject", HEALTHY)
def test_the_look_alike_is_left_alone(subject):
    is_left_alone(examined(HEALTHY[subject](0), only=ONLY), ID)


def test_suspicion_stands_any_evidence():
    fault, subject = NAMED[0]
    findings = findings_of(with_fault(fault, subject(0), only=ONLY))
    stands_any_evidence(ID, findings, numbers=False)
