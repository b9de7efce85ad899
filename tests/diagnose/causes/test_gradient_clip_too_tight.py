"""Gradients cut to nothing are named, under fastai's callback and an own one; a cut that Adam divides out is not."""

from functools import partial

import pytest
from fastai.callback.training import GradientClip
from fastai.optimizer import SGD
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "gradient-clip-too-tight"

NAMED = [("clip-tight", digits), ("clip-by-hand", digits), ("clip-tight", diabetes)]
HEALTHY = {
    "Adam": lambda seed: digits(seed, cbs=GradientClip(1e-3)),
    "outliers only": lambda seed: digits(seed, opt_func=partial(SGD, mom=0.9), lr=0.1, cbs=GradientClip(1.0)),
}


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
