"""Two rows through batch norms are named; two rows through norms over many pixels, and without any, are not."""

import pytest
from learners import digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "batch-too-small"
ONLY = ("overfit-one-batch", "modes-agree")


def no_norm(seed):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return digits(seed, bs=2, model=model)


NAMED = [("two-rows-a-batch", digits)]
HEALTHY = {"norms over pixels": lambda seed: digits(seed, bs=2), "no norm": no_norm}


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
