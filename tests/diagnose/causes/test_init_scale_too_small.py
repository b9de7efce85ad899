"""Weights that silence everything are named; a last layer that starts near zero is not."""

from learners import diabetes, digits, zero_last_layer
from naming import CauseTests
from torch import nn

ID = "init-scale-too-small"


def near_zero(seed):
    learn = digits(seed)
    nn.init.normal_(learn.model[-1].weight, 0.0, 1e-4)
    return learn


NAMED = [("weights-tiny", digits), ("weights-tiny", diabetes)]
HEALTHY = {"last layer near zero": near_zero, "last layer zero": zero_last_layer}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
