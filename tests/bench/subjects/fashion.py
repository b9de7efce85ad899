"""Fashion-MNIST, where Debian's package dataset-fashion-mnist has it (or the folder that FASHION_MNIST names)."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from _support import over, seeded
from fastai.losses import CrossEntropyLossFlat
from torch import nn

from diagnose.errors import NotApplicable

odd = ""
held_out = True
ROWS = 4000


def read(folder, kind, skip, *shape):
    """The first rows of one file of the test set."""
    with gzip.open(folder / f"t10k-{kind}-ubyte.gz") as f:
        f.read(skip)
        raw = np.frombuffer(f.read(ROWS * int(np.prod(shape))), np.uint8)
    return torch.from_numpy(raw.reshape(-1, *shape).copy())


def build(seed=0):
    folder = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
    if not (folder / "t10k-images-idx3-ubyte.gz").is_file():
        raise NotApplicable(
            f"Fashion-MNIST is not in {folder}: apt install dataset-fashion-mnist, or set FASHION_MNIST"
        )
    seeded(seed)
    x = (read(folder, "images-idx3", 16, 28, 28)[:, None] / 255 - 0.29) / 0.35
    y = read(folder, "labels-idx1", 8).long()
    first = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
    model = nn.Sequential(first, second, nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()), nn.Linear(288, 10))
    return over((x,), (y,), model, CrossEntropyLossFlat())
