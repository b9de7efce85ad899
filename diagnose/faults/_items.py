"""What faults of the data share: items that pass through a function on their way out of the data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import Tensor
from torch.utils.data import Dataset

from diagnose.data import class_index
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders

Change = Callable[[list[Any], list[Any], int], tuple[list[Any], list[Any]]]


class Altered(Dataset):
    """A data set whose items are changed when they are read.

    Args:
        change: from inputs, targets and index to inputs and targets.
        indices: the items that are left, in this order; all if None.
    """

    def __init__(self, dataset: Any, n_inp: int, change: Change | None = None, indices: list[int] | None = None):
        self.dataset_before, self.inputs, self.change, self.chosen = dataset, n_inp, change, indices

    def __len__(self) -> int:
        return len(self.dataset_before) if self.chosen is None else len(self.chosen)

    def __getitem__(self, i: int) -> tuple:
        i = int(i)
        item = self.dataset_before[i if self.chosen is None else self.chosen[i]]
        inputs, targets = list(item[: self.inputs]), list(item[self.inputs :])
        if self.change is not None:
            inputs, targets = self.change(inputs, targets, i)
        return (*inputs, *targets)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("dataset_before", "tls", "indices", "dataset"):
            raise AttributeError(name)  # where it keeps labels apart, they are no longer those of its items
        return getattr(self.dataset_before, name)


def indexed(learn: Learner, split: int = 0) -> tuple[DataLoader, int, tuple]:
    """A loader of fastai's, how many inputs its items have, and its first item.

    Raises:
        NotApplicable: the data set cannot be replaced, has no such split, or its items are no inputs and targets.
    """
    found = loaders(learn)
    if len(found) <= split:
        raise NotApplicable("there is no such split")
    loader = found[split]
    if type(loader).__module__.startswith("torch.") or not isinstance(loader, DataLoader) or not loader.indexed:
        raise NotApplicable("the data set of this loader cannot be replaced")
    own = [c for c in type(loader).__mro__ if not c.__module__.startswith(("fastai.", "fastcore.", "builtins"))]
    if any(name in vars(c) for c in own for name in ("create_item", "create_batch", "create_batches", "do_item")):
        raise NotApplicable("the loader makes its items and batches in its own way")
    item = loader.dataset[0]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise NotApplicable("items are no tuple of inputs and targets")
    n = getattr(learn.dls, "n_inp", None) or len(item) - 1
    return loader, n, tuple(item)


def alter(
    learn: Learner, change: Change | None, splits: tuple[int, ...] = (0, 1), indices: list[int] | None = None
) -> None:
    """Replace the data sets of some splits by altered ones.

    Raises:
        NotApplicable: as `indexed`.
    """
    for loader, n, _ in [indexed(learn, s) for s in splits]:
        loader.dataset = Altered(loader.dataset, n, change, indices)
        loader.n = len(loader.dataset)


def class_label(item: tuple, n_inp: int) -> int:
    """The class index of an item.

    Raises:
        NotApplicable: its target is something else.
    """
    index = class_index(torch.as_tensor(item[n_inp])) if len(item) == n_inp + 1 else None
    if index is None:
        raise NotApplicable("the target is no class index")
    return index


def labels(learn: Learner, split: int) -> list[int]:
    """Class indices of all items of a split. Raises NotApplicable if targets are something else."""
    loader, n, _ = indexed(learn, split)
    return [class_label(tuple(loader.dataset[i]), n) for i in range(len(loader.dataset))]


def like(value: Any, number: float) -> Any:
    """A number of the kind of another: tensor of the same dtype and type, or plain."""
    if isinstance(value, Tensor):
        return torch.full_like(value, number)
    return type(value)(number)


def as_float(value: Any) -> Tensor:
    """An input as a tensor of floats.

    Raises:
        NotApplicable: it holds no numbers on a scale.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise NotApplicable("the input holds no floating-point numbers")
    return value
