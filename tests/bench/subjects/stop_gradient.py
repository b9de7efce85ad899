"""Handwritten digits; two branches of one encoder, the gradient stopped on one."""

import _support  # noqa: F401
import learners

odd = "a detach in the model, on purpose"
held_out = False


def build(seed=0):
    return learners.stop_gradient(seed)
