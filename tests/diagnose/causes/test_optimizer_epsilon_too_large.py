"""An epsilon above the gradients is named; one that a large rate makes up for is not."""

from functools import partial

from fastai.optimizer import Adam
from learners import diabetes, digits
from naming import CauseTests

ID = "optimizer-epsilon-too-large"

NAMED = [("epsilon-huge", digits), ("epsilon-huge", diabetes)]
HEALTHY = {"eps 0.1 at a high rate": lambda seed: digits(seed, opt_func=partial(Adam, eps=0.1), lr=0.1)}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
