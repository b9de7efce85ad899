"""A hand-written activation that loses the signal is named; one that works is not."""

from learners import diabetes
from naming import CauseTests
from torch import Tensor, nn

ID = "activation-broken"


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


def own_swish(seed):
    learn = diabetes(seed)
    learn.model[1], learn.model[3] = Swish(), Swish()
    return learn


NAMED = [("activation-wrong", diabetes)]
HEALTHY = {"own Swish": own_swish}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
