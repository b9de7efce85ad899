"""Bounded samples of many tensors over several steps, taken by one copy and laid out for one pass of statistics.

A tensor of up to 4,096 elements is taken whole; of a larger one 256 chunks of 16 neighbours, evenly spaced. Copying the
samples costs microseconds a tensor, and nothing waits for the device. In the memory of this process statistics need no
copy, and of large outputs 64 chunks of 64 are read: another place of memory costs as much as a hundred elements. (Of
gradients, whose neighbours are more alike, standard deviations would be off by 8 to 14 % instead of 4.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diagnose.packed import CHUNK, LONG_CHUNK, WIDTH, start
from diagnose.stats import Layout, compiled, dense, on_host, plain, real, statistics

SAMPLE = 4096  # elements of a tensor: standard deviations within about 2 % in the median, see reports/gauges.md
_SPACING = 0.961  # of the even spacing: rows of channels and chunks must not keep step with each other


class Geometry(NamedTuple):
    """How tensors of a shape are sampled: `chunks`, `gap` apart, with `room` to shift them; 0 chunks: whole."""

    chunks: int
    gap: int
    room: int
    dense: bool


@lru_cache(4096)
def geometry(shape: tuple[int, ...], stride: tuple[int, ...], size: int = SAMPLE, chunk: int = CHUNK) -> Geometry:
    """The geometry of a strided tensor."""
    n = math.prod(shape)
    if n <= size:
        return Geometry(0, 0, 0, dense(shape, stride))
    chunks = size // chunk
    gap = max(int((n - chunk) / chunks * _SPACING), chunk)
    aligned = chunk == CHUNK and gap >= 8 * CHUNK
    if aligned:  # one that lies across two lines of the cache costs two; odd multiples meet all columns of a matrix
        gap = (gap // CHUNK - 1 | 1) * CHUNK
    room = max(n - chunk - gap * (chunks - 1), 0)
    room -= room % (2 * CHUNK) if aligned else 0  # what does not move begins in the middle
    return Geometry(chunks, gap, room, dense(shape, stride))


def sample(t: Tensor, shift: int = 0, size: int = SAMPLE) -> Tensor:
    """A view of up to `size` elements of a tensor, [n] if it is taken whole, else [size / 16, 16]; a copy where no view
    can be had. To be called without gradients enabled.

    Args:
        shift: moves the chunks, so that successive steps read other elements; 0 is the middle of the room there is.
    """
    t = plain(t)
    if t.layout != torch.strided or t.is_complex():
        t = real(t)
    chunks, gap, room, whole = geometry(tuple(t.shape), t.stride(), size)
    if not chunks:
        n = t.numel()
        shape = (n,) if n < size else (n // CHUNK, CHUNK)  # as the samples of larger ones, which it stands beside
        return t.as_strided(shape, (*shape[1:], 1), t.storage_offset()) if whole else t.reshape(shape)
    begin = start(shift, room) if shift else room // 2
    if whole:
        return t.as_strided((chunks, CHUNK), (gap, 1), t.storage_offset() + begin)
    where = begin + torch.arange(chunks, device=t.device)[:, None] * gap + torch.arange(CHUNK, device=t.device)
    return torch.take(t, where)


class Window(NamedTuple):
    """`sample` for tensors of one shape: the view of those that have this stride is known."""

    stride: tuple[int, ...] | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    room: int

    @classmethod
    def of(cls, t: Tensor, size: int = SAMPLE) -> Window:
        """For tensors like this plain one."""
        chunks, gap, room, whole = geometry(tuple(t.shape), t.stride(), size)
        if not whole:
            return cls(None, (), (), 0)
        if chunks:
            return cls(t.stride(), (chunks, CHUNK), (gap, 1), room)
        n = t.numel()
        shape = (n,) if n < size else (n // CHUNK, CHUNK)
        return cls(t.stride(), shape, (*shape[1:], 1), 0)

    def view(self, t: Tensor, shift: int) -> Tensor:
        """As `sample` gives it."""
        stride, shape, strides, room = self
        if stride is None or t.stride() != stride:
            return sample(t, shift)
        return t.as_strided(shape, strides, t.storage_offset() + start(shift, room))


def lying(tensors: Sequence[Tensor], whole: bool, unit: int = LONG_CHUNK) -> Any:
    """`compiled.Rows` of the samples, in chunks of `unit`, of tensors that `lies` says yes of, or of every element."""
    sizes = np.array([t.numel() for t in tensors], dtype=np.int64)
    rows = compiled().Rows.whole(sizes, unit)
    runs, gaps, tails, rooms = rows.runs.copy(), rows.gaps.copy(), rows.tails.copy(), rows.rooms.copy()
    for i, t in enumerate(tensors):
        chunks, gap, room, _ = geometry(tuple(t.shape), t.stride(), SAMPLE, unit)
        if chunks and not whole:
            runs[i], gaps[i], tails[i], rooms[i] = chunks, gap, 0, room
    return compiled().Rows(runs, gaps, tails, rooms, unit)


def lies(t: Tensor) -> bool:
    """Whether the samples of a tensor are found in the memory of this process by an address and a distance."""
    return t.layout == torch.strided and on_host(t) and dense(tuple(t.shape), t.stride())


@dataclass(frozen=True)
class Slot:
    """Where a tensor's samples stand: the key of a bank, a row in it, and how many elements the row holds."""

    bank: Hashable
    row: int
    room: int


class Places:
    """Where the samples of named tensors stand; shared by `Samples` that are compared element by element.

    Tensors of a device and precision share a bank: those that are taken whole one, those that are sampled another.
    """

    def __init__(self, size: int = SAMPLE):
        self.size = size
        self.names: dict[Hashable, list[Hashable]] = {}  # of the rows of every bank
        self._widths: dict[Hashable, list[int]] = {}
        self._layouts: dict[Hashable, Layout] = {}
        self._slots: dict[tuple[Hashable, Hashable], Slot] = {}
        self.rank: dict[Hashable, int] = {}  # in which order tensors first came
        self.rows = 0  # of all banks

    def slot(self, name: Hashable, like: Tensor) -> Slot:
        """The place of the tensor of that name; another one if its kind has changed, or if it has outgrown the row."""
        n = like.numel()
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        key = (like.device, wide, n >= self.size)
        slot = self._slots.get((name, key))
        if slot is None or slot.room < n:
            room = n if slot is None else min(2 ** (n - 1).bit_length(), self.size)  # it grows: leave it some room
            widths = self._widths.setdefault(key, [])
            slot = self._slots[name, key] = Slot(key, len(widths), room)
            widths.append(room)
            self.rows += 1
            self.names.setdefault(key, []).append(name)
            self.rank.setdefault(name, len(self.rank))
        return slot

    def layout(self, bank: Hashable) -> Layout:
        """The layout of a bank as it is by now."""
        layout, widths = self._layouts.get(bank), self._widths[bank]
        if layout is None or len(layout) < len(widths):
            layout = self._layouts[bank] = Layout(widths)
        return layout


@dataclass
class Copy:
    """A copy of one step's views into rows of one bank of one `Samples`, made again and again.

    Attributes:
        rows, sizes: where to, and how many elements each.
        complete: whether the views fill the line without a gap, in order.
        targets: views of the memory and of the row of counts, by step.
    """

    bank: Hashable
    rows: np.ndarray
    sizes: np.ndarray
    shapes: list[torch.Size]
    complete: bool = False
    partial: bool = False
    version: tuple[int, int] = (-1, -1)
    targets: dict[int, tuple[list[Tensor], np.ndarray]] = field(default_factory=dict)


class Samples:
    """Samples of named tensors over up to `steps` steps.

    Memory: `steps` × tensors × 4,096 × 4 bytes at most, whatever the number of steps recorded.
    """

    def __init__(self, steps: int, places: Places | None = None):
        self.steps, self.places = steps, places or Places()
        self._lines: dict[Hashable, Tensor] = {}
        self._counts: dict[Hashable, np.ndarray] = {}
        self._version = 0  # of the memory that views point to
        self.taken = False

    def copies(self, named: Sequence[tuple[Hashable, Tensor]]) -> list[tuple[Copy, list[int]]]:
        """How to copy (name, view as `sample` gives it) pairs: a copy for each bank, with the indices of its views."""
        banks: dict[Hashable, list[tuple[int, Slot]]] = {}
        for i, (name, view) in enumerate(named):
            slot = self.places.slot(name, view)
            banks.setdefault(slot.bank, []).append((i, slot))
        result = []
        for bank, members in banks.items():
            self._fit(bank)
            views = [named[i][1] for i, _ in members]
            rows, sizes = [s.row for _, s in members], [v.numel() for v in views]
            copy = Copy(bank, np.array(rows), np.array(sizes), [v.shape for v in views])
            copy.partial = any(s.room > v.numel() for (_, s), v in zip(members, views))
            line = self._lines[bank]
            same = all(v.dtype == line.dtype and v.ndim == views[0].ndim for v in views)
            copy.complete = same and not copy.partial and rows == list(range(len(self.places.layout(bank))))
            result.append((copy, [i for i, _ in members]))
        return result

    def take(self, step: int, copy: Copy, views: list[Tensor]) -> None:
        """Copy the views of one step. To be called without gradients enabled."""
        if copy.version != (self._version, self.places.rows):
            self._fit(copy.bank)
            copy.targets.clear()
            copy.version = self._version, self.places.rows
            copy.complete = copy.complete and len(copy.rows) == len(self.places.layout(copy.bank))
        found = copy.targets.get(step)
        if found is None:
            found = copy.targets[step] = self._targets(step, copy), self._counts[copy.bank][step]
        targets, counts = found
        if copy.complete:
            torch.cat(views, out=targets[0])  # a third of the time that a copy for each takes
            counts[:] = copy.sizes
        else:
            torch._foreach_copy_(targets, views)
            counts[copy.rows] = copy.sizes
            if copy.partial:
                self._clear_tails(step, copy)
        self.taken = True

    def _targets(self, step: int, copy: Copy) -> list[Tensor]:
        line, starts = self._lines[copy.bank][step], self.places.layout(copy.bank).starts
        if copy.complete:
            return [line if len(copy.shapes[0]) == 1 else line.view(-1, *copy.shapes[0][1:])]
        return [line[starts[r] : starts[r] + n].view(shape) for r, n, shape in zip(copy.rows, copy.sizes, copy.shapes)]

    def _clear_tails(self, step: int, copy: Copy) -> None:
        line, layout = self._lines[copy.bank][step], self.places.layout(copy.bank)
        for r, n in zip(copy.rows, copy.sizes):
            line[layout.starts[r] + n : layout.starts[r + 1]].zero_()

    def _fit(self, bank: Hashable) -> None:
        "Make room for all rows of a bank."
        layout, lines = self.places.layout(bank), self._lines.get(bank)
        width = layout.width
        if lines is not None and lines.shape[1] == width:
            return
        device, dtype, _ = bank
        grown = torch.zeros((self.steps, width), dtype=dtype, device=device)
        counts = np.zeros((self.steps, len(layout)), dtype=np.int64)
        if lines is not None:
            grown[:, : lines.shape[1]] = lines
            counts[:, : self._counts[bank].shape[1]] = self._counts[bank]
        self._lines[bank], self._counts[bank] = grown, counts
        self._version += 1

    @property
    def bytes_a_step(self) -> int:
        """Memory that one step takes."""
        return sum(lines.shape[1] * lines.element_size() for lines in self._lines.values())

    def resize(self, steps: int) -> None:
        """Hold so many steps from now on; what was taken is forgotten."""
        self.steps, self.taken = steps, False
        self._lines, self._counts = {}, {}
        self._version += 1

    def clear(self) -> None:
        """Forget what was taken, keep the memory."""
        self.taken = False
        for counts in self._counts.values():
            counts[:] = 0

    def lines(self, bank: Hashable) -> tuple[Tensor, np.ndarray]:
        """(lines [steps, width], counts [steps, rows]) of a bank, as wide as the layout is by now."""
        self._fit(bank)
        return self._lines[bank], self._counts[bank]

    @property
    def banks(self) -> list[Hashable]:
        """Keys of the banks that hold anything."""
        return [bank for bank, counts in self._counts.items() if counts.any()]

    def first(self) -> Samples:
        """A copy of the first moment that holds anything, as samples of one step in the same places."""
        result = Samples(1, self.places)
        for bank in self.banks:
            lines, counts = self.lines(bank)
            place = int(np.flatnonzero(counts.any(1))[0])
            result._lines[bank] = lines[place : place + 1].clone()
            result._counts[bank] = counts[place : place + 1].copy()
        return result

    def reduce(self, steps: int, kurtosis: bool) -> Reduced:
        """The statistics of everything taken in the first `steps` steps. The extremes of what is but a sample of a
        larger tensor would mean nothing: they are left out."""
        found = Reduced()
        places, names, packed = [], [], []
        for bank in self.banks:
            lines, counts = self.lines(bank)
            counts = counts[:steps]
            values = statistics(lines[:steps], self.places.layout(bank), counts, kurtosis, not bank[2])
            k, r = np.nonzero(counts)
            of_row = self.places.names[bank]
            found.banks.append((bank, k, r))
            places.append(k)
            names += [of_row[i] for i in r.tolist()]
            packed.append(values[k, r])
        if places:
            place, rank = np.concatenate(places), self.places.rank
            found.order = order = np.lexsort((np.array([rank[n] for n in names]), place))
            found.places, found.packed = place[order], np.concatenate(packed)[order]
            found.names = [names[i] for i in order.tolist()]
        return found


class Reduced:
    """Statistics of samples, one row a tensor and step: by step, and within a step as the tensors first came.

    Attributes:
        places: [rows] index of the step. names: [rows]. packed: [rows, fields] as `stats.statistics` gives them.
    """

    def __init__(self):
        self.places, self.names = np.zeros(0, dtype=np.int64), []
        self.packed = np.zeros((0, WIDTH))
        self.banks: list[tuple[Hashable, np.ndarray, np.ndarray]] = []
        self.order = np.zeros(0, dtype=np.int64)

    def column(self, values: Mapping[Hashable, np.ndarray]) -> np.ndarray:
        """[rows] of [steps, rows] values by bank; NaN where a bank has none."""
        parts = [values[b][k, r] if b in values else np.full(len(k), math.nan) for b, k, r in self.banks]
        return np.concatenate(parts)[self.order] if parts else np.zeros(0)
