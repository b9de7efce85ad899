"""Handwritten digits under a one-cycle schedule: rate up and down, momentum down and up."""

import _support  # noqa: F401
from fastai.callback.schedule import ParamScheduler, combined_cos
from learners import digits

odd = "rate and momentum change at every step, and the rate ends near zero"
held_out = False


def build(seed=0):
    rate, momentum = combined_cos(0.25, 4e-4, 1e-2, 1e-7), combined_cos(0.25, 0.95, 0.85, 0.95)
    return digits(seed, lr=1e-2, cbs=ParamScheduler({"lr": rate, "mom": momentum}))
