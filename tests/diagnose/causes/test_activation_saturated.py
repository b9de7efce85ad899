"""A sigmoid that is fed too much is named, hidden or last; one that is sure of its answers is not."""

import pytest
from learners import diabetes, digits, probabilities
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault
from torch import nn

ID = "activation-saturated"


def hidden_sigmoids(seed):
    learn = diabetes(seed, lr=1e-2)
    learn.model[1], learn.model[3] = nn.Tanh(), nn.Sigmoid()
    return learn


def sure(seed):
    learn = probabilities(seed)
    with learn.no_bar(), learn.no_logging():
        learn.fit(3)
    learn.opt = None
    return learn


NAMED = [("units-saturated", digits), ("scores-saturated", probabilities), ("units-saturated", diabetes)]
HEALTHY = {"sigmoids": hidden_sigmoids, "trained and sure": sure}


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
