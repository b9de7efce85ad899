"""Handwritten digits as bytes, scaled inside the model."""

import _support  # noqa: F401
import odd_subjects

odd = "inputs of 0 to 255, which the model itself divides"
held_out = False


def build(seed=0):
    return odd_subjects.byte_pictures(seed)
