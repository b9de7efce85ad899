"""A softmax over the rows or over one number is named; one over classes and scores of pairs are not."""

from learners import PairScores, SameLabel, diabetes, digits, softmax_and_nll
from naming import CauseTests

ID = "softmax-wrong-axis"


class PairSoftmax(PairScores):
    def forward(self, x):
        return super().forward(x) + super().forward(x).softmax(0)


def pair_softmax(seed):
    return digits(seed, model=PairSoftmax(), loss_func=SameLabel())


NAMED = [("softmax-over-batch", digits), ("softmax-over-one", diabetes)]
HEALTHY = {"over classes": softmax_and_nll, "pairs of rows": pair_softmax}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
    numbers = False
