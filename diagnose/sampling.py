"""Bounded samples of many tensors over several steps, taken by one copy and laid out for one pass of statistics.

A tensor of up to 4,096 elements is taken whole; of a larger one 256 chunks of 16 neighbours, evenly spaced. Copying the
samples costs microseconds a tensor, and nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diagnose.stats import real

SAMPLE = 4096  # elements of a tensor: standard deviations within about 2 % in the median, see reports/gauges.md
CHUNK = 16  # neighbours: one cache line of float32
WIDTHS = (64, 512, SAMPLE)  # a short tensor need not fill a long row
_SPACING = 0.961  # of the even spacing: rows of channels and chunks must not keep step with each other


class Geometry(NamedTuple):
    """How tensors of a shape are sampled: `chunks` of 16, `gap` apart, with `room` to shift them; 0 chunks: whole."""

    chunks: int
    gap: int
    room: int
    dense: bool


@lru_cache(4096)
def geometry(shape: tuple[int, ...], stride: tuple[int, ...], size: int = SAMPLE) -> Geometry:
    """The geometry of a strided tensor."""
    n = math.prod(shape)
    if n <= size:
        return Geometry(0, 0, 0, _dense(shape, stride))
    chunks = size // CHUNK
    gap = max(int((n - CHUNK) / chunks * _SPACING), CHUNK)
    return Geometry(chunks, gap, max(n - CHUNK - gap * (chunks - 1), 0), _dense(shape, stride))


def _dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    "Whether the elements fill a stretch of memory without gap or overlap, in whatever order."
    expected = 1
    for step, size in sorted(zip(stride, shape)):
        if size == 1:
            continue
        if step != expected:
            return False
        expected *= size
    return True


def sample(t: Tensor, shift: int = 0, size: int = SAMPLE) -> Tensor:
    """A view of up to `size` elements of a tensor, [n] if it is taken whole, else [size / 16, 16]; a copy where no view
    can be had. To be called without gradients enabled.

    Args:
        shift: moves the chunks, so that successive steps read other elements; 0 is the middle of the room there is.
    """
    if type(t) is not Tensor:
        t = t.as_subclass(Tensor)  # fastai's typed tensors dispatch every operation in Python
    if t.layout != torch.strided or t.is_complex():
        t = real(t)
    chunks, gap, room, dense = geometry(tuple(t.shape), t.stride(), size)
    if not chunks:
        return t.as_strided((t.numel(),), (1,), t.storage_offset()) if dense else t.reshape(-1)
    start = shift * 40503 % (room + 1) if shift else room // 2
    if dense:
        return t.as_strided((chunks, CHUNK), (gap, 1), t.storage_offset() + start)
    where = start + torch.arange(chunks, device=t.device)[:, None] * gap + torch.arange(CHUNK, device=t.device)
    return torch.take(t, where)


@dataclass
class Bucket:
    "Rows of one width: `rows` is [steps, capacity, width], `counts` how many elements of each row are filled."

    width: int
    rows: Tensor
    counts: np.ndarray
    used: int = 0


@dataclass(frozen=True)
class Slot:
    """Where a tensor's samples stand: a bucket's key, and the row in it."""

    bucket: Hashable
    row: int
    views: dict = field(default_factory=dict, compare=False, repr=False)


@dataclass
class Plan:
    """A copy that is made again and again: where to, where from, and the views of the targets by step."""

    slots: list[Slot]
    sources: list[Tensor]
    counts: dict[Hashable, tuple[list[int], list[int]]]
    targets: dict[int, list[Tensor]] = field(default_factory=dict)
    version: int = -1


class Samples:
    """Samples of named tensors over up to `steps` steps.

    Memory: `steps` × tensors × 4,096 × 4 bytes at most, whatever the number of steps recorded.
    """

    def __init__(self, steps: int, size: int = SAMPLE):
        self.steps, self.size = steps, size
        self.slots: dict[Hashable, Slot] = {}
        self._buckets: dict[Hashable, Bucket] = {}
        self._version = 0  # of the memory that views point to

    def slot(self, name: Hashable, like: Tensor) -> Slot:
        """The place of the tensor of that name; another one if its kind or size class has changed."""
        n = like.numel()
        width = next((w for w in WIDTHS if n <= w and w <= self.size), self.size)
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (like.device, width, wide, n >= width)  # full rows apart: they are reduced where they stand
        slot = self.slots.get((name, key))
        if slot is None:
            slot = self.slots[name, key] = Slot(key, self._row(key))
        return slot

    def _row(self, key: tuple) -> int:
        device, width, dtype, _ = key
        bucket = self._buckets.get(key)
        if bucket is None:
            rows = torch.zeros((self.steps, 8, width), dtype=dtype, device=device)
            bucket = self._buckets[key] = Bucket(width, rows, np.zeros((self.steps, 8), dtype=np.int64))
        if bucket.used == bucket.rows.shape[1]:
            bucket.rows = torch.cat([bucket.rows, torch.zeros_like(bucket.rows)], 1)
            bucket.counts = np.concatenate([bucket.counts, np.zeros_like(bucket.counts)], 1)
            self._forget_views()
        bucket.used += 1
        return bucket.used - 1

    def copy(self, step: int, pairs: Iterable[tuple[Slot, Tensor]]) -> None:
        """Take the samples of one step: (slot, view as `sample` gives it), all by one copy. To be called without
        gradients enabled."""
        targets, sources = [], []
        for slot, view in pairs:
            key = (step, view.shape)
            target = slot.views.get(key)
            if target is None:
                target = self._buckets[slot.bucket].rows[step, slot.row, : view.numel()].view(view.shape)
                if len(slot.views) < 4 * self.steps:  # sizes that never repeat are not worth remembering
                    slot.views[key] = target
            self._buckets[slot.bucket].counts[step, slot.row] = view.numel()
            targets.append(target)
            sources.append(view)
        if targets:
            torch._foreach_copy_(targets, sources)

    def plan(self, pairs: list[tuple[Slot, Tensor]]) -> Plan:
        """A copy that is made again and again from the same memory."""
        counts: dict[Hashable, tuple[list[int], list[int]]] = {}
        for slot, view in pairs:
            rows, sizes = counts.setdefault(slot.bucket, ([], []))
            rows.append(slot.row)
            sizes.append(view.numel())
        return Plan([s for s, _ in pairs], [v for _, v in pairs], counts)

    def repeat(self, step: int, plan: Plan) -> None:
        """`copy` by a plan. To be called without gradients enabled."""
        if not plan.sources:
            return
        targets = plan.targets.get(step)
        if targets is None or plan.version != self._version:
            if plan.version != self._version:
                plan.targets.clear()
                plan.version = self._version
            targets = plan.targets[step] = [
                self._buckets[s.bucket].rows[step, s.row, : v.numel()].view(v.shape)
                for s, v in zip(plan.slots, plan.sources)
            ]
        for key, (rows, sizes) in plan.counts.items():
            self._buckets[key].counts[step, rows] = sizes
        torch._foreach_copy_(targets, plan.sources)

    @property
    def bytes_a_step(self) -> int:
        """Memory that one step takes."""
        return sum(b.rows[0].numel() * b.rows.element_size() for b in self._buckets.values())

    def resize(self, steps: int) -> None:
        """Hold so many steps from now on; what was taken is forgotten."""
        self.steps = steps
        for bucket in self._buckets.values():
            shape = (steps, bucket.used, bucket.width)
            bucket.rows = torch.zeros(shape, dtype=bucket.rows.dtype, device=bucket.rows.device)
            bucket.counts = np.zeros(shape[:2], dtype=np.int64)
        self._forget_views()

    def _forget_views(self) -> None:
        self._version += 1
        for slot in self.slots.values():
            slot.views.clear()

    def clear(self) -> None:
        """Forget what was taken, keep the memory."""
        for bucket in self._buckets.values():
            if bucket.used < bucket.rows.shape[1]:
                bucket.rows, bucket.counts = (
                    bucket.rows[:, : bucket.used].clone(),
                    bucket.counts[:, : bucket.used].copy(),
                )
                self._forget_views()
            bucket.counts[:] = 0

    def each(self) -> Iterable[tuple[Hashable, Tensor, np.ndarray]]:
        """(key, rows [steps, R, width], counts [steps, R]) of every bucket."""
        for key, bucket in self._buckets.items():
            yield key, bucket.rows[:, : bucket.used], bucket.counts[:, : bucket.used]

    def slot_beside(self, other: Samples, name: Hashable, like: Tensor) -> Slot:
        """The place that stands in the same row as that tensor's place in `other`, so that rows can be compared."""
        theirs = other.slot(name, like)
        slot = self.slots.get((name, theirs.bucket))
        if slot is None:
            slot = self.slots[name, theirs.bucket] = Slot(theirs.bucket, theirs.row)
            while theirs.bucket not in self._buckets or self._buckets[theirs.bucket].used <= theirs.row:
                self._row(theirs.bucket)
        return slot

    def first(self) -> Samples:
        """A copy of the first moment that holds anything, as samples of one step."""
        result = Samples(1, self.size)
        result.slots = {k: Slot(s.bucket, s.row) for k, s in self.slots.items()}
        for key, rows, counts in self.each():
            place = int(np.flatnonzero(counts.any(1))[0]) if counts.any() else 0
            result._buckets[key] = Bucket(
                rows.shape[2], rows[place : place + 1].clone(), counts[place : place + 1].copy(), rows.shape[1]
            )
        return result

    def names(self, bucket: Hashable) -> list[Hashable]:
        """Names of the rows of a bucket."""
        return [name for (name, key), _ in self.slots.items() if key == bucket]

    def reduce(self, function: Callable[[Tensor, Tensor | None], Tensor]) -> tuple[np.ndarray, list, np.ndarray]:
        """Apply a function of (rows [N, width], counts [N], None for full rows) to everything taken; it gives [N, ...].

        Returns:
            The step of every row, its name, and what the function gave, all moved to the host at once for each bucket;
            in the order of the steps, and within a step as the tensors first came.
        """
        steps, names, results = [], [], []
        first = {}
        for name, _ in self.slots:
            first.setdefault(name, len(first))
        for key, rows, counts in self.each():
            of_row, full = self.names(key), counts == rows.shape[2]
            for taken in (full, (counts > 0) & ~full):
                k, r = np.nonzero(taken)
                if not len(k):
                    continue
                if rows.is_contiguous() and taken.all():
                    chosen = rows.view(-1, rows.shape[2])
                else:
                    chosen = rows[torch.from_numpy(k).to(rows.device), torch.from_numpy(r).to(rows.device)]
                results.append(
                    function(chosen, None if taken is full else torch.from_numpy(counts[k, r])).cpu().numpy()
                )
                steps.append(k)
                names += [of_row[i] for i in r]
        if not steps:
            return np.zeros(0, dtype=np.int64), [], np.zeros((0,))
        place = np.concatenate(steps)
        order = np.lexsort((np.array([first[n] for n in names]), place))
        return place[order], [names[i] for i in order], np.concatenate(results)[order]
