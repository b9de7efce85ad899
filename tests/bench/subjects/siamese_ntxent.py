"""Two views of each digit, pulled together by NT-Xent (SimCLR); the target is the item's number and is not used."""

import torch
from _support import over, seeded
from learners import _digits
from odd_subjects import ContrastiveLoss, Views

odd = ""
held_out = False


def build(seed=0):
    seeded(seed)
    x, _ = _digits()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return over((x + 0.1 * noise, x.roll(1, -1)), (torch.arange(len(x)),), Views(), ContrastiveLoss(), 32)
