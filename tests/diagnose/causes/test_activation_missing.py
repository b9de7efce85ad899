"""Linear layers in a row are named; a bottleneck that is linear on purpose is not."""

import pytest
from learners import diabetes
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from odd_subjects import text
from torch import nn

ID = "activation-missing"


def bottleneck(seed):
    learn = diabetes(seed)
    learn.model[2] = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64))
    return learn


NAMED = [("activations-removed", diabetes)]
HEALTHY = {"bottleneck": bottleneck, "text": text}


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
    stands_any_evidence(ID, findings, numbers=False)
