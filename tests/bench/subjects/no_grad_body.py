"""Handwritten digits; a head over random features that are computed under no_grad."""

import _support  # noqa: F401
import learners

odd = "the body gets no gradient: a linear probe, meant so"
held_out = False


def build(seed=0):
    return learners.no_grad_body(seed)
