"""Handwritten digits with half of the units dropped."""

import _support  # noqa: F401
import learners

odd = "training loss is noisy and above that of evaluation"
held_out = False


def build(seed=0):
    return learners.heavy_dropout(seed)
