"""Handwritten digits with gradients clipped at 1 and accumulated over two batches."""

import _support  # noqa: F401
import odd_subjects

odd = "only every second batch ends in a step, and a short one"
held_out = False


def build(seed=0):
    return odd_subjects.clipped_and_accumulated(seed)
