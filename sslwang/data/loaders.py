"""Loaders whose every item can be had again: each draw comes from a generator seeded by (seed, split, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader

from diagnose.errors import DiagnoseError

SPLITS = {"train": 0, "valid": 1}


class Items:
    """A data set that draws its items. Item `index` of an epoch is the same bits whenever and wherever it is asked for.

    Subclasses implement `draw` and `collate`.

    Args:
        count: items an epoch.
        seed: of every draw.
        split: `train` redraws its items each epoch, `valid` shows those of epoch 0 for ever.
    """

    def __init__(self, count: int, seed: int, split: str):
        self.count, self.seed, self.split = count, seed, split

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple:
        return self.item(0, index)

    def item(self, epoch: int, index: int) -> tuple:
        """Item `index` as it is in `epoch`."""
        if not 0 <= index < self.count:
            raise IndexError(f"item {index} of {self.count}")
        return self.draw(np.random.default_rng([self.seed, SPLITS[self.split], epoch, index]))

    def order(self, epoch: int) -> list[int]:
        """Indices in the shuffled order of `epoch`."""
        return np.random.default_rng([self.seed, SPLITS[self.split], epoch]).permutation(self.count).tolist()

    def draw(self, rng: np.random.Generator) -> tuple:
        """One item from a generator that belongs to it alone."""
        raise NotImplementedError

    def collate(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """A batch of items as tensors: inputs first, then the target."""
        raise NotImplementedError


class ReplayLoader(DataLoader):
    """fastai's loader over `Items`. `epoch` is the epoch of the pass under way, -1 before the first.

    Beginning a pass advances `epoch` of a training loader; putting the attribute back replays the pass. A validation
    loader stays in epoch 0.
    """

    def __init__(self, dataset: Items, **kwargs: Any):
        super().__init__(dataset, **kwargs)
        self.epoch = -1

    def before_iter(self) -> None:
        """The epoch belongs to the pass, so it is settled here, before any worker is forked."""
        self.epoch = self.epoch + 1 if self.dataset.split == "train" else 0

    def shuffle_fn(self, idxs: list[int]) -> list[int]:
        """The order of this epoch, from the seed of the items and not from the loader's own stream."""
        return self.dataset.order(self.epoch)

    def create_item(self, s: int) -> tuple:
        """Item `s` of this epoch."""
        return self.dataset.item(max(self.epoch, 0), s)

    def create_batch(self, b: list[tuple]) -> tuple[torch.Tensor, ...]:
        """Stack, mix and standardise the whole batch at once."""
        return self.dataset.collate(b)


def dataloaders(
    train: Items, valid: Items, bs: int, device: str | torch.device = "cpu", workers: int = 0
) -> DataLoaders:
    """Training loader (shuffled, whole batches only) and validation loader.

    Raises:
        DiagnoseError: fewer training items than one batch, or no validation item.
    """
    if len(train) < bs:
        raise DiagnoseError(f"{len(train)} training items are fewer than one batch of {bs}; lower bs or raise items")
    if len(valid) < 1:
        raise DiagnoseError("no validation item; raise valid_items")
    kwargs = {"bs": bs, "num_workers": workers, "device": torch.device(device)}
    return DataLoaders(
        ReplayLoader(train, shuffle=True, drop_last=True, **kwargs), ReplayLoader(valid, **kwargs), device=device
    )
