"""Wines by their chemistry: four columns binned into categories with embeddings, the rest as numbers."""

import numpy as np
import torch
from _support import floats, over, seeded, table
from fastai.losses import CrossEntropyLossFlat
from fastai.tabular.model import TabularModel

odd = ""
held_out = True
smoke = ("loss-through-numpy",)
BINS = 5


def build(seed=0):
    seeded(seed)
    x, y = table("wine")
    edges = np.quantile(x[:, :4], np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    binned = np.stack([np.digitize(x[:, k], edges[:, k]) for k in range(4)], 1)
    model = TabularModel([(BINS, 3)] * 4, x.shape[1] - 4, 3, [32, 16])
    return over((torch.from_numpy(binned), floats(x[:, 4:])), (torch.from_numpy(y),), model, CrossEntropyLossFlat(), 32)
