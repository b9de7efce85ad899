"""F22: the learning rate of a pretrained encoder, 1e-7, is left in place for an encoder that starts at random."""

from functools import partial

import torch
from fastai.basics import Adam, DataLoaders, Learner, Module, TfmdLists, Transform
from project_data import digits
from torch import nn


class LabelledDigit(Transform):
    def encodes(self, i):
        x, y = digits()
        return x[i], y[i]


class Net(Module):
    def __init__(self):
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x):
        return self.head(self.encoder(x))


def learner(lr):
    torch.manual_seed(0)
    labelled = LabelledDigit()
    dls = DataLoaders.from_dsets(
        TfmdLists(range(400), labelled), TfmdLists(range(400, 600), labelled), bs=32, num_workers=0, device="cpu"
    )
    opt = partial(Adam, mom=0.9, wd=0.01)
    return Learner(dls, Net(), loss_func=nn.CrossEntropyLoss(), lr=lr, opt_func=opt)


def build():
    return learner(1e-7)


def mended():
    return learner(3e-3)
