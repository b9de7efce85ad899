"""Disease progression from ten measurements: regression by an MLP, targets standardised."""

import _support  # noqa: F401
from learners import diabetes

odd = ""
held_out = False
smoke = ("healthy", "weights-constant", "lr-too-high", "targets-in-raw-units")


def build(seed=0):
    return diabetes(seed)
