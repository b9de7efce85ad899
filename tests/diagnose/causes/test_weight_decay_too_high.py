"""Decay that eats the weights is named, decoupled or not; a decay of 0.1 is not."""

from functools import partial

import pytest
import torch
from fastai.optimizer import OptimWrapper
from learners import diabetes, digits
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "weight-decay-too-high"

NAMED = [("weight-decay-huge", digits), ("weight-decay-coupled", digits), ("weight-decay-huge", diabetes)]
HEALTHY = {
    "decay 0.1": lambda seed: digits(seed, wd=0.1),
    "AdamW": lambda seed: digits(seed, wd=0.1, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)),
}


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
