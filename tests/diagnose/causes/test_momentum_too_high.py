"""A momentum that never forgets is named; a high one with a low rate is not."""

from functools import partial

import pytest
from fastai.optimizer import SGD
from learners import digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "momentum-too-high"

NAMED = [("momentum-huge", digits)]
HEALTHY = {"momentum 0.98 at a low rate": lambda seed: digits(seed, opt_func=partial(SGD, mom=0.98), lr=1e-2)}


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
