"""F4: the base class applies the last activation to what forward returned, which has one already."""

import torch
from fastai.basics import DataLoaders, Learner, Module, TfmdLists, Transform
from project_data import photos
from torch import nn


class Flipped(Transform):
    "Upside down or not?"

    def __init__(self, images):
        self.images = images

    def encodes(self, i):
        x = self.images[i // 2 % len(self.images)]
        return (x.flip(1) if i % 2 else x), torch.tensor([float(i % 2)])


class BaseModel(Module):
    "Every model of the project ends in `last_act`."

    def __init__(self, last_act):
        self.last_act = last_act

    def __call__(self, *xs):
        return self.last_act(super().__call__(*xs))


class FlipNet(BaseModel):
    def __init__(self, act):
        super().__init__(nn.Sigmoid())
        self.act = act
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 1)
        )

    def forward(self, x):
        return self.act(self.layers(x))


def learner(act):
    torch.manual_seed(0)
    train, valid = (TfmdLists(range(n), Flipped(photos(split))) for n, split in ((96, "train"), (32, "valid")))
    dls = DataLoaders.from_dsets(train, valid, bs=16, num_workers=0, device="cpu")
    return Learner(dls, FlipNet(act), loss_func=nn.BCELoss(), lr=3e-3)


def build():
    return learner(nn.Sigmoid())


def mended():
    return learner(nn.Identity())
