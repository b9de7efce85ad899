"""Gradients cut to nothing are named, under fastai's callback and an own one; a cut that Adam divides out is not."""

from functools import partial

from fastai.callback.training import GradientClip
from fastai.optimizer import SGD
from learners import diabetes, digits
from naming import CauseTests

ID = "gradient-clip-too-tight"

NAMED = [("clip-tight", digits), ("clip-by-hand", digits), ("clip-tight", diabetes)]
HEALTHY = {
    "Adam": lambda seed: digits(seed, cbs=GradientClip(1e-3)),
    "outliers only": lambda seed: digits(seed, opt_func=partial(SGD, mom=0.9), lr=0.1, cbs=GradientClip(1.0)),
}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
