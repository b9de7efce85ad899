"""A cosine head without a scale is named; one with a scale, and a linear head that learns, are not."""

import pytest
from learners import digits
from naming import examined, fault_of, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "head-too-weak"
ONLY = (
    "overfit-one-batch",
    "head-only",
    "feature-collapse",
)


class Times(nn.Module):
    def forward(self, x):
        return 20 * x


def scaled_cosine(seed):
    learn = digits(seed)
    fault_of("cosine-head").inject(learn)
    learn.model[3] = nn.Sequential(learn.model[3], Times())
    return learn


NAMED = [("cosine-head", digits)]
HEALTHY = {"linear": digits, "scaled cosine": scaled_cosine}


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
