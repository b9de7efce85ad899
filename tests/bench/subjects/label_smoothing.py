"""Handwritten digits under label smoothing of 0.2."""

import _support  # noqa: F401
import learners

odd = "the loss has a floor far above zero"
held_out = False


def build(seed=0):
    return learners.label_smoothing(seed)
