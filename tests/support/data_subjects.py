"""Learners over data sets of every kind, for the checks of the data: healthy ones, and pieces to spoil them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from learners import _digits, small_cnn
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset

from diagnose.isolate import seed_everything


class Read(Dataset):
    """A data set whose items a function makes from an index."""

    def __init__(self, count: int, read: Callable[[int], Any]):
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.read(i)


def digit(i: int) -> tuple[Tensor, Tensor]:
    """Picture and label number i."""
    x, y = _digits()
    return x[i], y[i]


def over(
    train: Dataset | Callable[[int], Any],
    valid: Dataset | Callable[[int], Any] | None = None,
    model: nn.Module | None = None,
    loss: Any = None,
    count: int = 128,
    bs: int = 16,
    torchs: bool = False,
    shuffle: bool = True,
    workers: int = 0,
    drop_valid: bool = False,
    **kwargs: Any,
) -> Learner:
    """A Learner over two data sets, or functions of an index; validation defaults to other digits."""
    seed_everything(0)
    train = train if isinstance(train, Dataset) else Read(count, train)
    valid = (lambda i: digit(1000 + i)) if valid is None else valid
    valid = valid if isinstance(valid, Dataset) else Read(count, valid)
    make = TorchLoader if torchs else DataLoader
    own = {k: kwargs.pop(k) for k in ("worker_init_fn", "wif", "collate_fn") if k in kwargs}
    loaders = [
        make(train, bs, shuffle=shuffle, drop_last=True, num_workers=workers, **own),
        make(valid, bs, drop_last=drop_valid, num_workers=workers),
    ]
    dls = DataLoaders(*loaders, device=torch.device("cpu"))
    return Learner(dls, model or small_cnn(), loss_func=loss or CrossEntropyLossFlat(), lr=3e-3, **kwargs)


def write_pictures(root: Path, names: list[str], each: int = 8, side: int = 16, start: int = 0) -> list[Path]:
    """Folders of small colour PNG files, one folder a class, all different."""
    made = []
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            rng = np.random.default_rng([start, k, i])
            pixels = (rng.random((side, side, 3)) * 120 + 100 * (k % 2)).astype(np.uint8)
            made.append(root / name / f"{name}{i}.png")
            Image.fromarray(pixels).save(made[-1])
    return made


def as_tensor(path: Any) -> Tensor:
    """A picture file as (3, height, width) in [0, 1]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


class Folders(Dataset):
    """Pictures in class folders, as torchvision's `ImageFolder` keeps them."""

    def __init__(self, root: Path, class_to_idx: dict[str, int] | None = None):
        self.classes = sorted(p.name for p in root.iterdir())
        self.class_to_idx = class_to_idx or {c: i for i, c in enumerate(self.classes)}
        self.samples = [(str(p), self.class_to_idx[c]) for c in self.classes for p in sorted((root / c).iterdir())]
        self.targets = [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        path, label = self.samples[i]
        return as_tensor(path), label


def colour_net(outputs: int, norm: bool = True) -> nn.Module:
    """A small net for 3×16×16 pictures."""
    layers = [nn.Conv2d(3, 8, 3, 2, 1), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs))
