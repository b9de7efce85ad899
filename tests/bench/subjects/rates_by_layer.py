"""Handwritten digits with a rate of its own for each layer group."""

import _support  # noqa: F401
import odd_subjects

odd = "the first layers move ten times as slowly as the last"
held_out = False


def build(seed=0):
    return odd_subjects.slice_of_rates(seed)
