"""From which of six photographs and textures is this grey crop?"""

import torch
from _support import crops, over, seeded
from fastai.losses import CrossEntropyLossFlat
from torch import nn

odd = ""
held_out = False
NAMES = ("brick", "grass", "gravel", "camera", "coins", "moon")


def build(seed=0):
    seeded(seed)
    x = crops(NAMES, 24, 96)[:, :1]
    x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 0.05)  # brightness alone would tell
    layers = []
    for a, b in ((1, 16), (16, 32), (32, 48)):
        layers.append(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 6))
    return over((x,), (torch.arange(6).repeat_interleave(96),), model, CrossEntropyLossFlat(), 32)
