"""Small seeded Learners on real data, healthy unless asked otherwise. Data come from scikit-learn."""

from __future__ import annotations

from functools import lru_cache

import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.utils.data import TensorDataset

from diagnose.isolate import seed_everything


@lru_cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    bunch = load_digits()
    return torch.tensor(bunch.images[:, None] / 16.0, dtype=torch.float32), torch.tensor(bunch.target)


def loaders_of(x: torch.Tensor, y: torch.Tensor, bs: int = 64, valid: int = 300) -> DataLoaders:
    train, held_out = TensorDataset(x[valid:], y[valid:]), TensorDataset(x[:valid], y[:valid])
    dl = DataLoader(train, bs=bs, shuffle=True, drop_last=True)
    return DataLoaders(dl, DataLoader(held_out, bs=bs), device=torch.device("cpu"))


def small_cnn(outputs: int = 10, dropout: float = 0.0) -> nn.Module:
    """Conv net with batch norm for 1×8×8 pictures."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(64, outputs),
    )


def digits(seed: int = 0, **kwargs) -> Learner:
    """Handwritten digits, ten classes, a small conv net."""
    seed_everything(seed)
    x, y = _digits()
    kwargs = {"loss_func": CrossEntropyLossFlat(), "lr": 3e-3, "metrics": accuracy, **kwargs}
    model = kwargs.pop("model", None) or small_cnn(dropout=kwargs.pop("dropout", 0.0))
    return Learner(loaders_of(x, y, bs=kwargs.pop("bs", 64)), model, **kwargs)


def diabetes(seed: int = 0, **kwargs) -> Learner:
    """Disease progression from ten measurements: regression by an MLP, targets standardised, shape (n, 1)."""
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    x = torch.tensor(x / x.std(0), dtype=torch.float32)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return Learner(loaders_of(x, y, valid=100), model, **{"loss_func": nn.MSELoss(), "lr": 3e-3, **kwargs})
