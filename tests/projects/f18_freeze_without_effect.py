"""F18: the encoder is frozen by `net[0].requires_grad = False`, which sets an attribute and freezes nothing."""

import torch
from fastai.basics import Callback, DataLoaders, Learner, TfmdLists, Transform
from project_data import digits
from torch import nn


class LabelledDigit(Transform):
    def encodes(self, i):
        x, y = digits()
        return x[i], y[i]


class EncoderToEval(Callback):
    "Statistics of a frozen encoder stay what they are."

    def before_batch(self):
        self.learn.model[0].eval()


def learner(freeze, cbs=()):
    torch.manual_seed(0)
    labelled = LabelledDigit()
    dls = DataLoaders.from_dsets(
        TfmdLists(range(400), labelled), TfmdLists(range(400, 600), labelled), bs=32, num_workers=0, device="cpu"
    )
    encoder = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    net = nn.Sequential(encoder, nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)))
    freeze(net)
    return Learner(dls, net, loss_func=nn.CrossEntropyLoss(), lr=3e-3, cbs=list(cbs))


def by_attribute(net):
    net[0].requires_grad = False


def by_method(net):
    net[0].requires_grad_(False)


def build():
    return learner(by_attribute)


def mended():
    return learner(by_method, [EncoderToEval()])
