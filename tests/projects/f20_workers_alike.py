"""F20: every worker of the loader starts from one state of numpy, so that each draws what its neighbour drew."""

import numpy as np
import torch
from fastai.basics import DataLoaders, Learner, Module
from project_data import photos
from torch import nn
from torch.utils.data import DataLoader, Dataset


class QuadrantDS(Dataset):
    "A quadrant of a photograph, with some noise: which of the four is it?"

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return 2 * len(self.images)

    def __getitem__(self, i):
        x, quadrant = self.images[i % len(self.images)], i % 4
        top, left = quadrant // 2 * 8, quadrant % 2 * 8
        noise = torch.tensor(np.random.normal(0, 0.05, (3, 8, 8)), dtype=torch.float32)  # noqa: NPY002 - as it was
        return x[:, top : top + 8, left : left + 8] + noise, torch.tensor(quadrant)


class Net(Module):
    def __init__(self):
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 4)
        )

    def forward(self, x):
        return self.layers(x)


def one_state(worker):
    np.random.seed(1)  # noqa: NPY002


def own_stream(worker):
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002


def learner(worker_init_fn):
    torch.manual_seed(0)
    train = DataLoader(
        QuadrantDS(photos("train")), 16, shuffle=True, drop_last=True, num_workers=2, worker_init_fn=worker_init_fn
    )
    valid = DataLoader(QuadrantDS(photos("valid")), 16)
    dls = DataLoaders(train, valid, device=torch.device("cpu"))
    return Learner(dls, Net(), loss_func=nn.CrossEntropyLoss(), lr=3e-3)


def build():
    return learner(one_state)


def mended():
    return learner(own_stream)
