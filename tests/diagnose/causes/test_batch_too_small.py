"""Two rows through batch norms are named; two rows through norms over many pixels, and without any, are not."""

from learners import digits
from naming import CauseTests
from torch import nn

ID = "batch-too-small"
ONLY = ("overfit-one-batch", "modes-agree")


def no_norm(seed):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return digits(seed, bs=2, model=model)


NAMED = [("two-rows-a-batch", digits)]
HEALTHY = {"norms over pixels": lambda seed: digits(seed, bs=2), "no norm": no_norm}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
