"""Handwritten digits in ten classes, a small conv net with batch norm."""

import _support  # noqa: F401
from learners import digits

odd = ""
held_out = False
smoke = ("healthy", "weights-frozen", "one-label", "loss-negated")


def build(seed=0):
    return digits(seed)
