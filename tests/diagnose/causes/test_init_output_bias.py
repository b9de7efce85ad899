"""A last bias that is far off is named; targets that are not standardised and learned all the same are not."""

import pytest
from learners import diabetes, digits, pair_scores
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import far_targets

ID = "init-output-bias"

NAMED = [("last-bias-far", digits), ("last-bias-far", diabetes)]
HEALTHY = {"targets around 2": far_targets, "scores of pairs": pair_scores}


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
