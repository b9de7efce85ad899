"""Handwritten digits; a second head that this run does not use."""

import _support  # noqa: F401
import learners

odd = "some parameters never get a gradient"
held_out = False


def build(seed=0):
    return learners.unused_head(seed)
