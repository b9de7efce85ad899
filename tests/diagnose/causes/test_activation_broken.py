"""A hand-written activation that loses the signal is named; one that works is not."""

import pytest
from learners import diabetes
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import Tensor, nn

ID = "activation-broken"


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


def own_swish(seed):
    learn = diabetes(seed)
    learn.model[1], learn.model[3] = Swish(), Swish()
    return learn


NAMED = [("activation-wrong", diabetes)]
HEALTHY = {"own Swish": own_swish}


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
