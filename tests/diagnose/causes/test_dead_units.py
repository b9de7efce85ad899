"""Units that are dead for every row are named; sparse ones are not."""

import pytest
import torch
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "dead-units"


def sparse(seed):
    "Four of five units of each layer are off for every row."
    learn = digits(seed)
    with torch.no_grad():
        for norm in (learn.model[0][1], learn.model[1][1]):
            norm.bias[: int(0.8 * len(norm.bias))] = -100.0
    return learn


NAMED = [("units-dead", digits), ("units-dead", diabetes)]
HEALTHY = {"sparse": sparse}


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
