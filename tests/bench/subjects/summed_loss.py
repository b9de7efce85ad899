"""Handwritten digits; a loss summed over the batch, under Adam."""

import _support  # noqa: F401
import learners

odd = "the loss is sixty times as large as usual; Adam divides the factor out"
held_out = False


def build(seed=0):
    return learners.summed_loss_under_adam(seed)
