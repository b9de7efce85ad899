"""Linear layers in a row are named; a bottleneck that is linear on purpose is not."""

from learners import diabetes
from naming import CauseTests
from odd_subjects import text
from torch import nn

ID = "activation-missing"


def bottleneck(seed):
    learn = diabetes(seed)
    learn.model[2] = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 64))
    return learn


NAMED = [("activations-removed", diabetes)]
HEALTHY = {"bottleneck": bottleneck, "text": text}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
    numbers = False
