"""Handwritten digits under plain SGD with momentum 0.95 and a high rate."""

from functools import partial

import _support  # noqa: F401
from fastai.optimizer import SGD
from learners import digits

odd = "losses swing in the first steps"
held_out = True


def build(seed=0):
    return digits(seed, opt_func=partial(SGD, mom=0.95), lr=0.02)
