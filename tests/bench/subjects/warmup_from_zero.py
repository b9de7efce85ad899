"""Handwritten digits; the rate rises from zero over a tenth of the run."""

import _support  # noqa: F401
from fastai.callback.schedule import ParamScheduler, SchedCos, SchedLin, combine_scheds
from learners import digits

odd = "the first steps do not move anything"
held_out = False


def build(seed=0):
    rate = combine_scheds([0.1, 0.9], [SchedLin(0.0, 5e-3), SchedCos(5e-3, 1e-5)])
    return digits(seed, lr=5e-3, cbs=ParamScheduler({"lr": rate}))
