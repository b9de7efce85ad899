"""Handwritten digits under fastai's MixUp."""

import _support  # noqa: F401
import odd_subjects

odd = "inputs and targets are mixed, and the loss does not reach zero"
held_out = False


def build(seed=0):
    return odd_subjects.mixup(seed)
