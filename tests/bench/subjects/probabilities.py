"""Handwritten digits, two labels; a sigmoid in the model before BCELoss."""

import _support  # noqa: F401
import learners

odd = "an activation stands before the loss, and belongs there"
held_out = False


def build(seed=0):
    return learners.probabilities(seed)
