"""Units that are dead for every row are named; sparse ones are not."""

import torch
from learners import diabetes, digits
from naming import CauseTests

ID = "dead-units"


def sparse(seed):
    "Four of five units of each layer are off for every row."
    learn = digits(seed)
    with torch.no_grad():
        for norm in (learn.model[0][1], learn.model[1][1]):
            norm.bias[: int(0.8 * len(norm.bias))] = -100.0
    return learn


NAMED = [("units-dead", digits), ("units-dead", diabetes)]
HEALTHY = {"sparse": sparse}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
