"""Weights that drown everything are named; large ones that a norm layer divides out are not."""

import pytest
import torch
from learners import diabetes, digits, fine_tuning_rate
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "init-scale-too-large"


def large_before_norm(seed):
    learn = digits(seed)
    with torch.no_grad():
        learn.model[0][0].weight *= 30
    return learn


NAMED = [("weights-huge", digits), ("weights-of-unit-variance", digits), ("weights-huge", diabetes)]
HEALTHY = {"large before batch norm": large_before_norm, "fine-tuned": fine_tuning_rate}


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
