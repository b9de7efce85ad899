"""Statistics that stay where they began are named; those of a slow momentum that catches up are not."""

from learners import digits, heavy_dropout
from naming import CauseTests

ID = "norm-statistics-gap"
ONLY = (
    "overfit-one-batch",
    "modes-agree",
)


def slow(seed):
    learn = digits(seed)
    for module in learn.model.modules():
        if hasattr(module, "momentum"):
            module.momentum = 0.05
    return learn


NAMED = [("norm-momentum-tiny", digits)]
HEALTHY = {"momentum 0.05": slow, "half dropped": heavy_dropout}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
