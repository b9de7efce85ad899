"""Handwritten digits; every row is scored against every row."""

import _support  # noqa: F401
import learners

odd = "the output of a row depends on the other rows, on purpose"
held_out = False


def build(seed=0):
    return learners.pair_scores(seed)
