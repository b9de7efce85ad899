"""An epsilon above the gradients is named; one that a large rate makes up for is not."""

from functools import partial

import pytest
from fastai.optimizer import Adam
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "optimizer-epsilon-too-large"

NAMED = [("epsilon-huge", digits), ("epsilon-huge", diabetes)]
HEALTHY = {"eps 0.1 at a high rate": lambda seed: digits(seed, opt_func=partial(Adam, eps=0.1), lr=0.1)}


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
