"""One unit a layer is named; a narrow net that learns its batch is not."""

from learners import diabetes
from naming import CauseTests
from torch import nn

ID = "capacity-too-small"
ONLY = (
    "overfit-one-batch",
    "wider-narrower",
)


def narrow(seed):
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    learn = diabetes(seed, lr=1e-2)
    learn.model = model
    return learn


NAMED = [("hidden-units-few", diabetes)]
HEALTHY = {"narrow": narrow}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
