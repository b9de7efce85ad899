"""Handwritten digits under decoupled weight decay of 0.1 (AdamW's kind, Loshchilov and Hutter 2019)."""

import _support  # noqa: F401
from learners import digits

odd = "the decay is ten times fastai's own, and harmless at this rate"
held_out = False


def build(seed=0):
    return digits(seed, wd=0.1)
