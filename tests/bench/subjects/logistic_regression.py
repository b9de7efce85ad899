"""Is this tumour malignant? One linear layer."""

import torch
from _support import floats, over, seeded, table
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = "no activation and no hidden layer anywhere"
held_out = False


def build(seed=0):
    seeded(seed)
    x, y = table("breast_cancer")
    return over((floats(x),), (torch.from_numpy(y),), nn.Sequential(nn.Linear(30, 2)), CrossEntropyLossFlat(), lr=3e-2)
