"""Statistics that stay where they began are named; those of a slow momentum that catches up are not."""

import pytest
from learners import digits, heavy_dropout
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "norm-statistics-gap"
ONLY = (
    "overfit-one-batch",
    "modes-agree",
)


def slow(seed):
    learn = digits(seed)
    for module in learn.model.modules():
        if hasattr(module, "momentum"):
            module.momentum = 0.05
    return learn


NAMED = [("norm-momentum-tiny", digits)]
HEALTHY = {"momentum 0.05": slow, "half dropped": heavy_dropout}


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
