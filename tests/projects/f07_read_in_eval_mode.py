"""F7: batch norm is trained on batches of two rows, and the verdict is read in evaluation mode."""

import numpy as np
import torch
from fastai.basics import DataLoaders, ItemTransform, Learner, Module, TfmdLists
from project_data import photos
from torch import nn


class ScaleMixer(ItemTransform):
    "An image and three darker copies of it; which of them are black?"

    def __init__(self, images):
        self.images = images

    def encodes(self, i):
        weights = np.array([0.4, 0.6, 0.0], dtype=np.float32)[np.random.default_rng(i).permutation(3)]
        x = self.images[i % len(self.images)]
        return (x, *(w * x for w in weights), torch.tensor((weights > 0).astype(np.float32)))


class Unmixer(Module):
    def __init__(self, norm=nn.BatchNorm1d):
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(256, 64), norm(64), nn.ReLU(), nn.Linear(64, 32), norm(32), nn.ReLU())
        self.last = nn.Linear(32, 3)

    def forward(self, *xb):
        return self.last(self.head(torch.cat([self.encoder(x) for x in xb], 1)))


def learner(bs, norm=nn.BatchNorm1d):
    torch.manual_seed(0)
    train, valid = (TfmdLists(range(n), ScaleMixer(photos(split))) for n, split in ((96, "train"), (32, "valid")))
    dls = DataLoaders.from_dsets(train, valid, bs=bs, num_workers=0, device="cpu")
    return Learner(dls, Unmixer(norm), loss_func=nn.BCEWithLogitsLoss(), lr=3e-3)


def build():
    return learner(bs=2)


def mended():
    return learner(bs=16)
