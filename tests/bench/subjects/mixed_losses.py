"""Handwritten digits: the class and the amount of ink, two losses added up."""

import _support  # noqa: F401
import odd_subjects

odd = "outputs and targets are tuples, and the loss is of no one kind"
held_out = False


def build(seed=0):
    return odd_subjects.multi_task(seed)
