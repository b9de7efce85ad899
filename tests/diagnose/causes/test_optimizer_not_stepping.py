"""A step that changes nothing is named; one that is skipped now and then is not."""

import pytest
from fastai.callback.core import Callback, CancelStepException
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import clipped_and_accumulated

ID = "optimizer-not-stepping"


class EverySecond(Callback):
    def before_step(self):
        if self.learn.train_iter % 2:
            raise CancelStepException


NAMED = [("step-cancelled", digits), ("step-without-effect", diabetes)]
HEALTHY = {"every second step": lambda seed: digits(seed, cbs=EverySecond()), "accumulated": clipped_and_accumulated}


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
