"""Decay that eats the weights is named, decoupled or not; a decay of 0.1 is not."""

from functools import partial

import torch
from fastai.optimizer import OptimWrapper
from learners import diabetes, digits
from naming import CauseTests

ID = "weight-decay-too-high"

NAMED = [("weight-decay-huge", digits), ("weight-decay-coupled", digits), ("weight-decay-huge", diabetes)]
HEALTHY = {
    "decay 0.1": lambda seed: digits(seed, wd=0.1),
    "AdamW": lambda seed: digits(seed, wd=0.1, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)),
}


class TestCause(CauseTests):
    id, named, healthy = ID, NAMED, HEALTHY
