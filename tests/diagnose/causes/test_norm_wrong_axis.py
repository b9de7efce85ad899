"""A norm over one number is named; norms over the features are not."""

import pytest
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "norm-wrong-axis"


def layer_norm(seed):
    learn = diabetes(seed)
    learn.model[1] = nn.Sequential(nn.LayerNorm(64), nn.GroupNorm(8, 64), nn.ReLU())
    return learn


NAMED = [("norm-over-one", digits), ("norm-over-one", diabetes)]
HEALTHY = {"layer norm": layer_norm}


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
