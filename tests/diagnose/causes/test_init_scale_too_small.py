"""Weights that silence everything are named; a last layer that starts near zero is not."""

import pytest
from learners import diabetes, digits, zero_last_layer
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "init-scale-too-small"


def near_zero(seed):
    learn = digits(seed)
    nn.init.normal_(learn.model[-1].weight, 0.0, 1e-4)
    return learn


NAMED = [("weights-tiny", digits), ("weights-tiny", diabetes)]
HEALTHY = {"last layer near zero": near_zero, "last layer zero": zero_last_layer}


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
