"""One unit a layer is named; a narrow net that learns its batch is not."""

import pytest
from learners import diabetes
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "capacity-too-small"
ONLY = (
    "overfit-one-batch",
    "wider-narrower",
)


def narrow(seed):
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    learn = diabetes(seed, lr=1e-2)
    learn.model = model
    return learn


NAMED = [("hidden-units-few", diabetes)]
HEALTHY = {"narrow": narrow}


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
