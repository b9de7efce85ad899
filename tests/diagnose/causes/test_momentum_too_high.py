"""A momentum that never forgets is named; a high one with a low rate is not."""

from functools import partial

from fastai.optimizer import SGD
from learners import digits
from naming import CauseTests

ID = "momentum-too-high"

NAMED = [("momentum-huge", digits)]
HEALTHY = {"momentum 0.98 at a low rate": lambda seed: digits(seed, opt_func=partial(SGD, mom=0.98), lr=1e-2)}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
