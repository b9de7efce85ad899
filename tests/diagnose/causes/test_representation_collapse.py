"""Features that differ in the fifth digit only are named; features that all point one way are not."""

import pytest
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "representation-collapse"
ONLY = (
    "overfit-one-batch",
    "feature-collapse",
)


def one_direction(seed):
    learn = diabetes(seed)
    nn.init.constant_(learn.model[2].bias, 3.0)
    return learn


NAMED = [("features-drowned", diabetes), ("features-drowned", digits)]
HEALTHY = {"one direction": one_direction}


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
    stands_any_evidence(ID, findings)
