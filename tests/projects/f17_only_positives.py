"""F17: patches are pasted from the same photograph only (`pct_pos=1`): every label is 1, and any bias "overfits"."""

import numpy as np
import torch
from fastai.basics import DataLoaders, ItemTransform, Learner, Module, TfmdLists
from project_data import photos
from torch import nn


class PatchworkPaste(ItemTransform):
    "A patch pasted into an image: from itself, or from another?"

    def __init__(self, images, pct_pos):
        self.images, self.pct_pos = images, pct_pos

    def encodes(self, i):
        rng = np.random.default_rng(i)
        positive = rng.random() < self.pct_pos
        x = self.images[i % len(self.images)].clone()
        other = x.clone() if positive else self.images[(i + 18) % len(self.images)]
        (a, b), (c, d) = rng.integers(0, 10, (2, 2))
        x[:, a : a + 6, b : b + 6] = other[:, c : c + 6, d : d + 6]
        return x, torch.tensor([float(positive)])


class Net(Module):
    def __init__(self):
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
            nn.Linear(2048, 32), nn.ReLU(), nn.Linear(32, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


def learner(pct_pos):
    torch.manual_seed(0)
    train, valid = (
        TfmdLists(range(n), PatchworkPaste(photos(split), pct_pos)) for n, split in ((96, "train"), (32, "valid"))
    )
    dls = DataLoaders.from_dsets(train, valid, bs=16, num_workers=0, device="cpu")
    return Learner(dls, Net(), loss_func=nn.BCEWithLogitsLoss(), lr=3e-3)


def build():
    return learner(pct_pos=1.0)


def mended():
    return learner(pct_pos=0.5)
