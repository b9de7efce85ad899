"""Is this digit a three? One in ten is, and the net learns it."""

from _support import over, seeded
from fastai.losses import CrossEntropyLossFlat
from learners import _digits, small_cnn

odd = "nine of ten targets are the same"
held_out = True
smoke = ("healthy",)


def build(seed=0):
    seeded(seed)
    x, y = _digits()
    return over((x,), ((y == 3).long(),), small_cnn(2), CrossEntropyLossFlat())
