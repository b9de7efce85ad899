"""A softmax over the rows or over one number is named; one over classes and scores of pairs are not."""

import pytest
from learners import PairScores, SameLabel, diabetes, digits, softmax_and_nll
from naming import examined, findings_of, is_left_alone, is_named, stands_any_evidence, with_fault

ID = "softmax-wrong-axis"


class PairSoftmax(PairScores):
    def forward(self, x):
        return super().forward(x) + super().forward(x).softmax(0)


def pair_softmax(seed):
    return digits(seed, model=PairSoftmax(), loss_func=SameLabel())


NAMED = [("softmax-over-batch", digits), ("softmax-over-one", diabetes)]
HEALTHY = {"over classes": softmax_and_nll, "pairs of rows": pair_softmax}


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
