"""Loaders whose every item can be had again: each draw comes from a generator seeded by (seed, split, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.torch_core import to_cpu
from matplotlib.figure import Figure

from diagnose.errors import DiagnoseError
from sslwang.data.pictures import Shown, rows_figure

SPLITS = {"train": 0, "valid": 1}


class Items:
    """A data set that draws its items. Item `index` of an epoch is the same bits whenever and wherever it is asked for.

    Subclasses implement `draw`, `stack` and `finish`.

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

    def stack(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """Items as tensors, as they were drawn."""
        raise NotImplementedError

    def finish(self, stacked: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """A batch of what `stack` made, inputs first, then the targets; on the device where there is one."""
        raise NotImplementedError

    def shown(self, batch: tuple, outputs: Any = None) -> list[Shown]:
        """Each row of a batch as a person looks at it, with the prediction if the network's outputs are given."""
        raise NotImplementedError

    def collate(self, items: Sequence[tuple]) -> tuple[torch.Tensor, ...]:
        """A batch of items."""
        return self.finish(self.stack(items))


class ReplayLoader(DataLoader):
    """fastai's loader over `Items`. `epoch` is the epoch of the pass under way, -1 before the first.

    Beginning a pass advances `epoch` of a training loader; putting the attribute back replays the pass. A validation
    loader stays in epoch 0.

    Args:
        dataset: the items.
        late: finish batches (mix, cut, standardise) after they have come to the device, not in the workers.

    Attributes:
        begin: batches that the next pass leaves out, without drawing them: a training that was interrupted goes on.
        share: (rank, processes): of every `processes` batches the pass shows the one of that rank, whole batches only.
    """

    def __init__(self, dataset: Items, late: bool = False, **kwargs: Any):
        super().__init__(dataset, **kwargs)
        self.late, self.epoch = late, -1
        self.begin, self.share = 0, (0, 1)

    def __len__(self) -> int:
        return super().__len__() // self.share[1]

    def get_idxs(self) -> list[int]:
        """The items of this pass in their order."""
        idxs, begin, (rank, processes) = super().get_idxs(), self.begin, self.share
        self.begin = 0
        if processes == 1:
            return idxs[begin * self.bs :]
        batches = [idxs[i : i + self.bs] for i in range(0, len(idxs), self.bs)]
        return [i for k in range(begin, len(self)) for i in batches[k * processes + rank]]

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
        """Stack, and unless that comes late mix and standardise, the whole batch at once."""
        return self.dataset.stack(b) if self.late else self.dataset.collate(b)

    def show_batch(self, b: tuple | None = None, max_n: int = 6, **kwargs: Any) -> None:
        """fastai's `dls.show_batch()`: rows as a person looks at them, on a figure of pyplot."""
        rows_figure(self.dataset.shown(to_cpu(self.one_batch() if b is None else b))[:max_n], _pyplot_figure())

    def show_results(self, b: tuple, out: Any, max_n: int = 6, **kwargs: Any) -> None:
        """fastai's `learn.show_results()`: the same with predictions, green where right and red where wrong."""
        rows_figure(self.dataset.shown(to_cpu(b), to_cpu(out))[:max_n], _pyplot_figure())

    def after_batch(self, b: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """What is left to do on the device."""
        return self.dataset.finish(b) if self.late else b


def _pyplot_figure() -> Figure:
    from matplotlib import pyplot

    return pyplot.figure(layout="constrained")


def dataloaders(
    train: Items,
    valid: Items,
    bs: int,
    device: str | torch.device = "cpu",
    workers: int = 0,
    pin: bool = False,
) -> DataLoaders:
    """Training loader (shuffled, whole batches only) and validation loader.

    Args:
        train, valid: the items.
        bs: batch size.
        device: where batches go.
        workers: processes that load; 0 loads in the process that trains.
        pin: load into locked memory; nothing happens where there is no CUDA device.

    Raises:
        DiagnoseError: fewer training items than one batch, or no validation item.
    """
    if len(train) < bs:
        raise DiagnoseError(f"{len(train)} training items are fewer than one batch of {bs}; lower bs or raise items")
    if len(valid) < 1:
        raise DiagnoseError("no validation item; raise valid_items")
    device = torch.device(device)
    pin = pin and device.type == "cuda"
    kwargs = {"bs": bs, "num_workers": workers, "pin_memory": pin, "device": device, "late": device.type != "cpu"}
    return DataLoaders(
        ReplayLoader(train, shuffle=True, drop_last=True, **kwargs), ReplayLoader(valid, **kwargs), device=device
    )
