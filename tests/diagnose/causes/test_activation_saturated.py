"""A sigmoid that is fed too much is named, hidden or last; one that is sure of its answers is not."""

from learners import diabetes, digits, probabilities
from naming import CauseTests
from torch import nn

ID = "activation-saturated"


def hidden_sigmoids(seed):
    learn = diabetes(seed, lr=1e-2)
    learn.model[1], learn.model[3] = nn.Tanh(), nn.Sigmoid()
    return learn


def sure(seed):
    learn = probabilities(seed)
    with learn.no_bar(), learn.no_logging():
        learn.fit(3)
    learn.opt = None
    return learn


NAMED = [("units-saturated", digits), ("scores-saturated", probabilities), ("units-saturated", diabetes)]
HEALTHY = {"sigmoids": hidden_sigmoids, "trained and sure": sure}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
