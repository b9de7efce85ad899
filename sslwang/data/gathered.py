"""Images of a batch that occur in several of its rows: plain in value, and yet each kept, sent and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Gathered(torch.Tensor):
    """Images `pool[index]`, (B, 3, S, S), that remember the pool they were taken from.

    Any operation takes them for the plain tensor that they are and gives a plain tensor, so that whoever slices, copies
    or perturbs a batch has rows that stand for themselves. Only who asks `pool_and_index` learns what they share.

    Attributes:
        pool: (M, 3, S, S). index: (B,) int64 into it.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # what comes out of an operation is plain

    pool: torch.Tensor | None = None  # None where a cast made this from another tensor
    index: torch.Tensor
    written: tuple[int, int]

    @classmethod
    def of(cls, pool: torch.Tensor, index: torch.Tensor) -> Gathered:
        """Take images from a pool."""
        return cls._taken(pool.index_select(0, index), pool, index)

    @classmethod
    def _taken(cls, images: torch.Tensor, pool: torch.Tensor, index: torch.Tensor) -> Gathered:
        found = images.as_subclass(cls)
        found.pool, found.index, found.written = pool, index, (found._version, pool._version)
        return found

    def intact(self) -> bool:
        """Whether the images still are what the pool holds, and no gradient with respect to them is asked for."""
        if self.pool is None or self.requires_grad:
            return False
        return self.written == (self._version, self.pool._version)

    def as_subclass(self, cls: type) -> torch.Tensor:
        """Itself where a plain tensor is asked for: fastai's `CastToTensor` asks before every forward pass."""
        return self if cls is torch.Tensor else super().as_subclass(cls)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Workers send the pool and the index and not the images, which are several times as many."""
        if self.intact():
            return Gathered.of, (self.pool, self.index)
        return self.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        """A plain copy."""
        return memo.setdefault(id(self), self.detach().clone().requires_grad_(self.requires_grad))


def gathered(pool: torch.Tensor, index: torch.Tensor) -> list[torch.Tensor]:
    """Images of every column of `index` (B, n) into a pool (M, 3, S, S); plain tensors where no image occurs twice.

    One that is written to takes all of them for written to. On the CPU a first column that is the pool itself, in its
    order, is not copied.
    """
    columns, rows = index.T.contiguous(), len(index)
    if len(pool) >= index.numel():
        return list(pool.index_select(0, columns.flatten()).split(rows))
    first = index.device.type == "cpu" and torch.equal(columns[0], torch.arange(rows))
    taken = pool.index_select(0, columns[int(first) :].flatten()).split(rows)
    taken = (pool[:rows], *taken) if first else taken
    return [Gathered._taken(images, pool, column) for images, column in zip(taken, columns)]


def pool_and_index(images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What n tensors (B, 3, S, S) are taken from, (M, 3, S, S), and which of it each row takes, (B, n) int64.

    That is their common pool if they are `Gathered` from one and have not been written to since, else all of them.
    """
    known = [x for x in images if isinstance(x, Gathered) and x.intact()]
    if len(known) == len(images) and all(x.pool is known[0].pool for x in known):
        return known[0].pool, torch.stack([x.index for x in known], dim=1)
    count, rows = len(images), len(images[0])
    return torch.cat(list(images)), torch.arange(count * rows, device=images[0].device).reshape(count, rows).T
