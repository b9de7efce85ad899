"""A norm over one number is named; norms over the features are not."""

from learners import diabetes, digits
from naming import CauseTests
from torch import nn

ID = "norm-wrong-axis"


def layer_norm(seed):
    learn = diabetes(seed)
    learn.model[1] = nn.Sequential(nn.LayerNorm(64), nn.GroupNorm(8, 64), nn.ReLU())
    return learn


NAMED = [("norm-over-one", digits), ("norm-over-one", diabetes)]
HEALTHY = {"layer norm": layer_norm}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
    numbers = False
