"""A cosine head without a scale is named; one with a scale, and a linear head that learns, are not."""

from learners import digits
from naming import CauseTests, fault_of
from torch import nn

ID = "head-too-weak"
ONLY = (
    "overfit-one-batch",
    "head-floor",
    "head-only",
    "feature-collapse",
)


class Times(nn.Module):
    def forward(self, x):
        return 20 * x


def scaled_cosine(seed):
    learn = digits(seed)
    fault_of("cosine-head").inject(learn)
    learn.model[3] = nn.Sequential(learn.model[3], Times())
    return learn


NAMED = [("cosine-head", digits)]
HEALTHY = {"linear": digits, "scaled cosine": scaled_cosine}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
