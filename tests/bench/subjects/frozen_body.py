"""Handwritten digits; a body frozen by requires_grad under a head that trains."""

import _support  # noqa: F401
import odd_subjects

odd = "most parameters do not move: the owner declared it"
held_out = False


def build(seed=0):
    return odd_subjects.frozen_body(seed)
