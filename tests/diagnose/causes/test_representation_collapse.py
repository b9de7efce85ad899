"""Features that differ in the fifth digit only are named; features that all point one way are not."""

from learners import diabetes, digits
from naming import CauseTests
from torch import nn

ID = "representation-collapse"
ONLY = (
    "overfit-one-batch",
    "feature-collapse",
)


def one_direction(seed):
    learn = diabetes(seed)
    nn.init.constant_(learn.model[2].bias, 3.0)
    return learn


NAMED = [("features-drowned", diabetes), ("features-drowned", digits)]
HEALTHY = {"one direction": one_direction}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
