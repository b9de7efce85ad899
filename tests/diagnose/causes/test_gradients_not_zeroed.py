"""Gradients that stay are named, where one batch is learned all the same too; gradients that are gathered are not."""

import pytest
from fastai.callback.core import Callback, CancelBatchException
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import clipped_and_accumulated

ID = "gradients-not-zeroed"


class Gathers(Callback):
    "Steps at every second batch, by hand: what is left of the first is meant."

    def after_backward(self):
        if not self.learn.train_iter % 2:
            raise CancelBatchException


NAMED = [("zero-grad-missing", digits), ("zero-grad-overridden", digits), ("zero-grad-overridden", diabetes)]
HEALTHY = {"accumulated": clipped_and_accumulated, "gathered by hand": lambda seed: digits(seed, cbs=Gathers())}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("fault", "subject"), NAMED)
def test_the_fault_is_named_first_and_proven(fault, subject, seed):
    is_named(with_fault(fault, subject(seed), seed), ID)


@pytest.mark.parametrize("subject", HEALTHY)
def test_the_look_alike_is_left_alone(subject):
    is_left_alone(examined(HEALTHY[subject](0)), ID)


def test_suspicion_stands_any_evidence():
    fault, subject = NAMED[0]
    findings = findings_of(with_fault(fault, subject(0)))
    stands_any_evidence(ID, findings)
