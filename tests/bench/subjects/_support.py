"""What the subjects share: real data that come with installed packages, and loaders over them.

Importing this puts the folder of the tests' own builders on the path, so that they can be used too.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import Tensor, nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from diagnose.isolate import seed_everything

TEXTS = ("argparse", "decimal", "difflib", "doctest", "heapq", "logging", "pickle", "random", "string", "tarfile")


def over(
    inputs: tuple[Tensor, ...], targets: tuple[Tensor, ...], model: nn.Module, loss: Any, bs: int = 64, **kwargs: Any
) -> Learner:
    """A Learner over rows of tensors; a fifth of them, drawn once and for all, is validation."""
    order = torch.randperm(len(inputs[0]), generator=torch.Generator().manual_seed(0))
    cut = len(order) // 5
    parts = [TensorDataset(*(t[rows] for t in (*inputs, *targets))) for rows in (order[cut:], order[:cut])]
    train = DataLoader(parts[0], bs=min(bs, len(order) - cut), shuffle=True, drop_last=True)
    dls = DataLoaders(train, DataLoader(parts[1], bs=bs))
    for loader in dls.loaders:
        loader.n_inp = len(inputs)
    return Learner(dls, model.to(dls.device), loss_func=loss, **{"lr": 3e-3, **kwargs})


def seeded(seed: int) -> None:
    """Set every random stream, before a model is made."""
    seed_everything(seed)


@cache
def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of scikit-learn's bundled tables: columns in units of their standard deviation, and the target as it is."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y


def floats(x: Any) -> Tensor:
    """As float32."""
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


@cache
def prose() -> tuple[str, str]:
    """What scikit-learn says of its tables, and what modules of Python say of themselves: English, in ASCII. Other
    versions of either give other words of the same kind."""
    from sklearn import datasets

    tables = [getattr(datasets, f"load_{n}")().DESCR for n in ("breast_cancer", "diabetes", "digits", "iris", "wine")]
    modules = [importlib.import_module(name).__doc__ or "" for name in TEXTS]
    plain = [" ".join("\n".join(t).split()).encode("ascii", "ignore").decode().lower() for t in (tables, modules)]
    return plain[0] + " ", plain[1]


@cache
def characters() -> tuple[Tensor, int]:
    """The prose as indices of its characters, and how many characters there are."""
    text = "".join(prose())
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    return torch.tensor([known[c] for c in text]), len(known)


def windows(length: int, count: int) -> Tensor:
    """Stretches of `length` + 1 characters, spread over the text: (count, length + 1)."""
    ids, _ = characters()
    starts = torch.linspace(0, len(ids) - length - 2, count).long()
    return torch.stack([ids[s : s + length + 1] for s in starts])


@cache
def photograph(name: str) -> np.ndarray:
    """A photograph that comes with scikit-image: (height, width, 3) in [0, 1]."""
    from skimage import data
    from skimage.color import gray2rgb

    picture = getattr(data, name)()
    return (gray2rgb(picture) if picture.ndim == 2 else picture[..., :3]).astype(np.float32) / 255


@cache
def crops(names: tuple[str, ...], side: int, each: int, size: int = 0) -> Tensor:
    """Crops of photographs in places that are drawn once and for all: (names × each, 3, side, side) in [0, 1].

    Args:
        size: side of what is cut out, then shrunk to `side`; as large as it if 0.
    """
    size, made = size or side, []
    for i, name in enumerate(names):
        picture, rng = photograph(name), np.random.default_rng(i)
        for _ in range(each):
            top, left = (rng.integers(0, n - size + 1) for n in picture.shape[:2])
            made.append(picture[top : top + size, left : left + size])
    stacked = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)
    return stacked if size == side else nn.functional.interpolate(stacked, side, mode="area")
