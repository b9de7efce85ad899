"""Is this tumour malignant? Thirty measured columns through a plain MLP."""

import torch
from _support import floats, over, seeded, table
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = ""
held_out = False
smoke = ("healthy", "nan-in-items", "head-replaced", "clip-tight")


def build(seed=0):
    seeded(seed)
    x, y = table("breast_cancer")
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    return over((floats(x),), (torch.from_numpy(y),), model, CrossEntropyLossFlat())
