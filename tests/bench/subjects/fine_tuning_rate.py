"""Handwritten digits; a net that is trained already goes on at a rate of 0.00001."""

import _support  # noqa: F401
import learners

odd = "the weights hardly move, and the loss has little left to fall"
held_out = False


def build(seed=0):
    return learners.fine_tuning_rate(seed)
