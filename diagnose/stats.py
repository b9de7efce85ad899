"""Pure tensor statistics: the one kernel that gauges and checks share. Nothing here changes its arguments."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diagnose.packed import BINS, CHUNK, FIELDS, NEAR, NOTHING, PUT, WIDTH, WINDOW, Summary


def tensors(tree: Any) -> list[Tensor]:
    """Every tensor of a nested structure of tuples, lists and dicts, in order; an iterator is left as it is."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    return (
        [t for part in tree for t in tensors(part)]
        if isinstance(tree, Iterable) and not isinstance(tree, (str, Iterator))  # an iterator would be used up
        else []
    )


def plain(tensor: Tensor) -> Tensor:
    """The same numbers as a `torch.Tensor`: typed tensors, such as fastai's, dispatch every operation in Python."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def version(tensor: Tensor) -> int:
    """How often a tensor was written into, as far as PyTorch counts it; −1 for one that was made in inference mode."""
    try:
        return tensor._version
    except RuntimeError:
        return -1


def replaced(tree: Any, new: Iterable[Tensor]) -> Any:
    """The same structure with its tensors replaced, in the order of `tensors`."""
    return _replace(tree, iter(new))


def _replace(tree: Any, new) -> Any:
    if isinstance(tree, Tensor):
        return next(new)
    if isinstance(tree, dict):
        return {k: _replace(v, new) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_replace(v, new) for v in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_replace(v, new) for v in tree)
    return tree


def total_norm(parts: Sequence[Tensor]) -> float:
    """L2 norm of all elements of all tensors together; 0 for none. Sparse gradients are read by their values."""
    dense = [_values(t).float() for t in parts if t.numel()]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in dense]))) if dense else 0.0


def _values(t: Tensor) -> Tensor:
    return t.coalesce().values() if t.is_sparse else t


def relative_change(before: Tensor, after: Tensor) -> float:
    """‖after − before‖ / ‖before‖, the latter at least 1e-12, so that any move of an all-zero tensor is seen."""
    before, after = _wide(before), _wide(after)
    return float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before).clamp_min(1e-12))


def _wide(t: Tensor) -> Tensor:
    return t.detach() if t.dtype == torch.float64 else t.detach().float()  # a double must not lose its small moves


def spread(outputs: Any) -> float:
    """Standard deviation over the batch (dimension 0), averaged over every output unit: 0 if all rows are alike.

    Source: the notes' own gauge of a net that answers with a constant (pretext-task debug item D13).
    """
    parts = [t.detach().float().flatten(1) if t.ndim > 1 else t.detach().float()[:, None] for t in floats(outputs)]
    parts = [p for p in parts if p.shape[0] > 1 and p.numel()]
    if not parts:
        return 0.0
    return float(torch.cat([p.std(0, unbiased=False) for p in parts]).mean())


def floats(tree: Any) -> list[Tensor]:
    """Every real floating-point tensor with a batch dimension."""
    return [t for t in tensors(tree) if t.is_floating_point() and t.ndim > 0]


def largest_difference(a: Any, b: Any) -> float:
    """Largest absolute difference of two structures of tensors; infinity where shapes differ, NaN if any is."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return float("inf")
    found = [(x.detach().double() - y.detach().double()).abs().max() for x, y in pairs if x.numel()]
    return float(torch.stack(found).max()) if found else 0.0


def same_bits(a: Tensor, b: Tensor) -> bool:
    """True if shape, dtype and every bit agree (NaN equals the same NaN)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.detach(), b.detach()
    if torch.equal(a, b):
        return True
    return (
        a.is_floating_point()
        and bool(torch.equal(torch.isnan(a), torch.isnan(b)))
        and bool(torch.equal(torch.nan_to_num(a, nan=0.0), torch.nan_to_num(b, nan=0.0)))
    )


def alike(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """True if there are as many tensors on both sides, and `same_bits` says so of each pair."""
    return len(a) == len(b) and all(map(same_bits, a, b))


def rows_changed(before: Tensor, after: Tensor, tolerance: float = 1e-5) -> list[int]:
    """Indices along dimension 0 whose values differ by more than `tolerance` of the largest magnitude in `before`."""
    if not before.numel():
        return []
    size = before.detach().abs().float().max().clamp_min(1e-30)
    gap = (after.detach().float() - before.detach().float()).abs().reshape(before.shape[0], -1).amax(1)
    return (~(gap <= tolerance * size)).nonzero().flatten().tolist()


# ---- the statistics kernel: many tensors in one pass -----------------------------------------------------------

_LIFT = 24  # float32's smallest denormal times 2^24 is a normal number, so that only zero has an exponent of zero
_FULL = 512  # bins of one sign, as the bits give them: 8 of the exponent and the first of the mantissa
_BIAS = 2 * (127 + _LIFT)  # index of the half-octave that starts at 1
_SAFE = (-100, 104)  # half-octaves of which float32 holds a sum of 2^22 squares; what lies outside is done in float64
_PART = 2**18  # elements taken at a time, so that the memory to work in stays in the cache
_MOST_THREADS = 8  # the memory is the bound then
_ROWS = 256  # rows taken at a time, so that their histograms stay in it too


class Layout:
    """Rows of these widths, one behind the other in a line of memory that is there once a step."""

    def __init__(self, widths: Iterable[int]):
        self.widths = np.array(list(widths), dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.widths)])
        self.even = int(self.widths[0]) if len(set(self.widths.tolist())) == 1 else 0  # 0: of unequal width
        self.chunks = self.even // CHUNK if self.even % CHUNK == 0 and self.even >= 8 * CHUNK else 0
        self.parts: list[Layout] = []  # in which the work is done, so that it stays in the cache
        self._offsets: dict[torch.device, Tensor] = {}
        self._lengths: dict[tuple[torch.device, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def width(self) -> int:
        """Elements of the line."""
        return int(self.starts[-1])

    def split(self) -> Iterator[tuple[int, Layout]]:
        """(first row, layout) of runs of rows that are small enough to work on."""
        if not self.parts:
            of_part = np.maximum((self.starts[1:] - 1) // _PART, np.arange(len(self)) // _ROWS)
            for number in np.unique(of_part):
                self.parts.append(Layout(self.widths[of_part == number]) if of_part[-1] else self)
        first = 0
        for part in self.parts:
            yield first, part
            first += len(part)

    def offsets(self, steps: int, device: torch.device) -> Tensor:
        """[steps, width] where the counts of an element's row start."""
        kept = self._offsets.get(device)
        if kept is None or len(kept) < steps:
            rows = np.arange(steps * len(self), dtype=np.int32).reshape(steps, -1) * (2 * _FULL) + _FULL
            kept = self._offsets[device] = torch.from_numpy(np.repeat(rows, self.widths, axis=1)).to(device)
        return kept[:steps]

    def spread(self, values: Tensor) -> Tensor:
        """[steps, rows] as [steps, width], every row's value at each of its elements."""
        if values.device.type == "cpu":  # a twentieth of the time of `repeat_interleave`
            return torch.from_numpy(np.repeat(values.numpy(), self.widths, axis=1))
        widths = torch.from_numpy(self.widths).to(values.device)
        return values.repeat_interleave(widths, 1, output_size=self.width)

    def total(self, x: Tensor, how: str = "sum") -> Tensor:
        """[steps, rows] sum, min or max of every row of x [steps, width]."""
        if self.even:
            x = x.unflatten(1, (len(self), self.even))
            return x.sum(2) if how == "sum" else x.amin(2) if how == "min" else x.amax(2)
        if x.device.type == "cpu":  # pairwise summation, an eighth of the time of `segment_reduce`
            ufunc = {"sum": np.add, "min": np.minimum, "max": np.maximum}[how]
            return torch.from_numpy(ufunc.reduceat(x.numpy(), self.starts[:-1], axis=1))
        return self._on_device(x, how)

    def _on_device(self, x: Tensor, how: str) -> Tensor:
        key = (x.device, len(x))
        if key not in self._lengths:
            self._lengths[key] = torch.from_numpy(np.tile(self.widths, len(x))).to(x.device)
        found = torch.segment_reduce(x.reshape(-1), how, lengths=self._lengths[key], unsafe=True)
        return found.view(len(x), len(self))

    def squares(self, x: Tensor, work: Tensor) -> Tensor:
        """[steps, rows] sum of squares of every row of x [steps, width]; `work` is as large, and overwritten."""
        if self.even:
            return torch.linalg.vector_norm(x.unflatten(1, (len(self), self.even)), dim=2).double().square_()
        return self.total(torch.mul(x, x, out=work)).double()


def statistics(lines: Tensor, layout: Layout, counts: np.ndarray, kurtosis: bool, extremes: bool) -> np.ndarray:
    """Every statistic of every row of several steps, in a few passes where they are, and one transfer to the host.

    Args:
        lines: [steps, layout.width] float32 or float64, left as they are.
        counts: [steps, rows] how many elements of a row, from its start, are meant; what follows them must be zero.
            Of a row of which none is meant the statistics mean nothing.
        kurtosis, extremes: whether to compute these too.

    Returns:
        [steps, rows, len(FIELDS) + 64] float64, to be read as `Summary` row by row.
    """
    steps, device = len(lines), lines.device
    if layout.width and on_host(lines):
        host = compiled()
        k, r = np.nonzero(counts[:steps])
        packed = np.full((steps, len(layout), WIDTH), math.nan)
        addresses = lines.data_ptr() + 4 * (k * lines.stride(0) + layout.starts[r])
        found = read(addresses, host.Rows.whole(counts[k, r]), kurtosis, extremes)
        if steps * len(layout) == len(found):
            return found.reshape(packed.shape)
        packed[k, r] = found
        return packed
    packed = torch.full((steps, len(layout), WIDTH), math.nan, dtype=torch.float64, device=device)
    for first, part in layout.split():
        begin = int(layout.starts[first])
        columns, rows = lines[:, begin : begin + part.width], slice(first, first + len(part))
        step = max(min(_PART // max(part.width, 1), _ROWS // max(len(part), 1)), 1)
        for k in range(0, steps, step):
            _accumulate(packed[k : k + step, rows], columns[k : k + step], part, kurtosis, extremes)
    packed = packed.cpu().numpy()
    with np.errstate(all="ignore"):
        _finish(packed, lines, layout, counts, kurtosis, extremes)
    return packed


def compiled() -> ModuleType:
    """`diagnose.compiled`, imported at the first use: that takes half a second."""
    from diagnose import compiled

    return compiled


def on_host(tensor: Tensor) -> bool:
    """Whether `compiled` reads this tensor; PyTorch does the others, on whatever device they are."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and compiled().enabled()


def _accumulate(packed: Tensor, x: Tensor, layout: Layout, kurtosis: bool, extremes: bool) -> None:
    "Sums in the places of mean and std, and the histogram; with padding among the zeros."
    put, (steps, rows) = PUT, packed.shape[:2]
    work = _scratch(x.numel(), x.dtype, x.device).view(x.shape)
    where = _bits(x, work)
    where += layout.offsets(steps, x.device)
    counted = torch.bincount if x.device.type == "cpu" else _bincount_without_waiting
    top, histogram = _folded(counted(where.view(-1), minlength=steps * rows * 2 * _FULL).view(-1, 2, _FULL))
    packed[:, :, put["top"]], packed[:, :, len(FIELDS) :] = top.view(steps, rows), histogram.view(steps, rows, BINS)
    with np.errstate(all="ignore"):
        square = layout.squares(x, work)
        if layout.chunks:
            chunks = _chunk_sums(x).view(steps, rows, layout.chunks)
            total = chunks.sum(2).double()
            chunks -= (total / layout.chunks)[:, :, None]
            packed[:, :, put["error"]] = torch.linalg.vector_norm(chunks, dim=2)
        else:
            total = layout.total(x).double()
        packed[:, :, put["mean"]], packed[:, :, put["std"]] = total, square
        if extremes:
            packed[:, :, put["min"]], packed[:, :, put["max"]] = layout.total(x, "min"), layout.total(x, "max")
        if kurtosis:
            widths = torch.from_numpy(layout.widths).to(x.device)
            mean = total / widths
            scale = (square / widths - mean.square()).clamp_min_(1e-300).rsqrt_().clamp_max_(1e30)
            if layout.even:
                mean, scale, x = mean[:, :, None], scale[:, :, None], x.unflatten(1, (rows, layout.even))
            else:
                mean, scale = layout.spread(mean.to(x.dtype)), layout.spread(scale.to(x.dtype))
            torch.sub(x, mean.to(x.dtype), out=work.view(x.shape)).mul_(scale.to(x.dtype)).square_()
            packed[:, :, put["kurtosis"]] = layout.squares(work, work)


def _finish(
    packed: np.ndarray, lines: Tensor, layout: Layout, counts: np.ndarray, kurtosis: bool, extremes: bool
) -> None:
    "Statistics from the sums, on the host; rows of which the sums cannot be trusted are read again in float64."
    put, n = {f: packed[:, :, i] for f, i in PUT.items()}, np.maximum(counts, 1).astype(np.float64)
    histogram, short = packed[:, :, len(FIELDS) :], counts < layout.widths
    histogram[:, :, WINDOW + 1] -= layout.widths - counts
    put["count"][:] = counts
    put["zeros"][:] = histogram[:, :, WINDOW + 1] / n
    put["negatives"][:] = histogram[:, :, : WINDOW + 1].sum(2) / n
    put["nonfinite"][:] = histogram[:, :, -1] / n
    mean, second = put["mean"] / n, put["std"] / n
    variance = second - mean**2
    put["mean"][:], put["std"][:] = mean, np.sqrt(np.maximum(variance, 0))
    if layout.chunks:
        put["error"][:] /= CHUNK * (layout.chunks * (layout.chunks - 1)) ** 0.5
        put["error"][short] = math.nan
    put["kurtosis"][:] = np.where(variance > 0, put["kurtosis"] / n - 3, math.nan)
    top = put["top"]
    odd = (histogram[:, :, -1] > 0) | ((top > NOTHING) & ((top < _SAFE[0]) | (top > _SAFE[1])))
    near = (mean**2 > NEAR * second) & (second > 0)
    again = odd.copy()
    if kurtosis or extremes:
        again |= short  # padding is among the extremes, and was not what the mean is of
    again &= counts > 0
    near &= ~again & (counts > 0)
    if again.any():
        k, r = np.nonzero(again)
        new = precisely(_elements(lines, layout, k, r, counts), counts[k, r], bool(odd.any()))
        asked = ("kurtosis",) * kurtosis + ("min", "max") * extremes
        for field in ("mean", "std", "zeros", "negatives", "nonfinite", *asked):
            put[field][k, r] = new[:, PUT[field]]
        put["error"][odd] = math.nan
        if odd.any():
            top[k, r], histogram[k, r] = new[:, PUT["top"]], new[:, len(FIELDS) :]
    if near.any():
        k, r = np.nonzero(near)
        put["mean"][k, r], put["std"][k, r], fourth = _moments(_elements(lines, layout, k, r, counts), counts[k, r])
        if kurtosis:
            put["kurtosis"][k, r] = fourth


def _elements(lines: Tensor, layout: Layout, k: np.ndarray, r: np.ndarray, counts: np.ndarray) -> np.ndarray:
    "What is meant of these rows of these steps, one behind the other, in float64."
    spans = zip(k.tolist(), layout.starts[r].tolist(), counts[k, r].tolist())
    if lines.device.type == "cpu":
        host = lines.numpy()
        return np.concatenate([host[i, s : s + c] for i, s, c in spans], dtype=np.float64)
    return torch.cat([lines[i, s : s + c] for i, s, c in spans]).cpu().numpy().astype(np.float64)


def _moments(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Mean, standard deviation and kurtosis of finite rows, none of them huge or tiny; `values` is overwritten."
    starts = np.cumsum(lengths) - lengths
    mean = np.add.reduceat(values, starts) / lengths
    values -= np.repeat(mean, lengths)
    values *= values
    variance = np.add.reduceat(values, starts) / lengths
    values *= values
    kurtosis = np.where(variance > 0, np.add.reduceat(values, starts) / lengths / variance**2 - 3, math.nan)
    return mean, np.sqrt(variance), kurtosis


def squares(a: Tensor, b: Tensor | None, layout: Layout) -> np.ndarray:
    """[steps, rows] sums of squares of the rows of a, or of a − b; b may be one step for all."""
    if on_host(a):
        function = compiled().products if b is None else compiled().distances
        return function(a.numpy(), (a if b is None else b).numpy(), layout.starts)
    return _over_steps(a, b, layout, lambda x, y, work: x if y is None else torch.sub(x, y, out=work), True)


def dots(a: Tensor, b: Tensor, layout: Layout) -> np.ndarray:
    """[steps, rows] dot products of the rows of a and b."""
    if on_host(a):
        return compiled().products(a.numpy(), b.numpy(), layout.starts)
    return _over_steps(a, b, layout, lambda x, y, work: torch.mul(x, y, out=work), False)


def _over_steps(a: Tensor, b: Tensor | None, layout: Layout, function: Callable, square: bool) -> np.ndarray:
    found = torch.empty((len(a), len(layout)), dtype=torch.float64, device=a.device)
    for first, part in layout.split():
        begin, rows = int(layout.starts[first]), slice(first, first + len(part))
        step = max(_PART // max(part.width, 1), 1)
        for k in range(0, len(a), step):
            x = a[k : k + step, begin : begin + part.width]
            y = None if b is None else b[k if len(b) > 1 else 0 :][:step, begin : begin + part.width]
            work = _scratch(x.numel(), x.dtype, x.device).view(x.shape)
            value = function(x, y if y is None or len(b) > 1 else y[:1], work)
            with np.errstate(all="ignore"):
                found[k : k + step, rows] = part.squares(value, work) if square else part.total(value).double()
    return found.cpu().numpy()


def precisely(values: np.ndarray, lengths: np.ndarray, histogram: bool = True) -> np.ndarray:
    """The statistics of rows in float64, of whatever size, and of the finite elements where others are among them.

    Args:
        values: the rows one behind the other, float64. lengths: [rows] elements of each, at least 1.
        histogram: whether to count too.

    Returns:
        [rows, len(FIELDS) + 64], `error` NaN.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    row = np.repeat(np.arange(len(lengths)), lengths)
    packed = np.full((len(lengths), WIDTH), math.nan)
    put = {f: packed[:, i] for f, i in PUT.items()}
    finite = np.isfinite(values)
    count = np.add.reduceat(finite, starts, dtype=np.float64)
    put["count"][:], put["nonfinite"][:] = lengths, 1 - count / lengths
    put["zeros"][:] = np.add.reduceat(values == 0, starts, dtype=np.float64) / lengths
    put["negatives"][:] = np.add.reduceat((values < 0) & finite, starts, dtype=np.float64) / lengths
    with np.errstate(all="ignore"):
        x = np.where(finite, values, 0.0)
        size = np.maximum(np.maximum.reduceat(np.abs(x), starts), 5e-324)
        x /= size[row]
        mean = np.add.reduceat(x, starts) / count
        x -= mean[row]
        x[~finite] = 0
        x *= x
        variance = np.add.reduceat(x, starts) / count
        x *= x
        put["mean"][:], put["std"][:] = mean * size, np.sqrt(variance) * size
        put["kurtosis"][:] = np.where(variance > 0, np.add.reduceat(x, starts) / count / variance**2 - 3, math.nan)
        some = count > 0
        put["min"][some] = np.minimum.reduceat(np.where(finite, values, math.inf), starts)[some]
        put["max"][some] = np.maximum.reduceat(np.where(finite, values, -math.inf), starts)[some]
    if histogram:
        mantissa, exponent = np.frexp(np.where(finite, values, 0.0))  # mantissa in [0.5, 1)
        half = 2 * (exponent.astype(np.int64) - 1) + (np.abs(mantissa) >= 0.75)
        half[mantissa == 0] = NOTHING
        top = np.maximum.reduceat(half, starts)
        below = np.minimum(top[row] - half, WINDOW)  # 0 for the largest, WINDOW for what shares one bin
        place = np.where(mantissa < 0, below, BINS - 2 - below)
        place[mantissa == 0] = WINDOW + 1
        place[~finite] = BINS - 1
        put["top"][:] = top
        packed[:, len(FIELDS) :] = np.bincount(row * BINS + place, minlength=len(lengths) * BINS).reshape(-1, BINS)
    return packed


def summarise(rows: Tensor, counts: Tensor | None = None, kurtosis: bool = False, extremes: bool = True) -> np.ndarray:
    """`statistics` of the rows of a matrix.

    Args:
        rows: [R, W] float32 or float64, left as it is.
        counts: [R] how many elements of a row, from its start, are meant (at least 1); None for all.
        kurtosis, extremes: whether to compute these too.

    Returns:
        [R, len(FIELDS) + 64] float64, to be read as `Summary(packed)`.
    """
    if not len(rows):
        return np.zeros((0, WIDTH))
    width = rows.shape[1]
    meant = np.full((len(rows), 1), width) if counts is None else counts.cpu().numpy()[:, None]
    if (meant < width).any():
        inside = torch.arange(width, device=rows.device) < torch.from_numpy(meant).to(rows.device)
        rows = torch.where(inside, rows, torch.zeros_like(rows))
    return statistics(rows, _of_width(width), meant, kurtosis, extremes)[:, 0]


@lru_cache(64)
def _of_width(width: int) -> Layout:
    return Layout([width])


def summary(tensor: Tensor, kurtosis: bool = True) -> Summary:
    """Statistics of all elements of one tensor: a `Summary` of one row.

    Raises:
        TypeError: the tensor is complex.
    """
    return Summary(exact([tensor], kurtosis))


def exact(tensors: Sequence[Tensor], kurtosis: bool = True) -> np.ndarray:
    """The packed statistics of all elements of every tensor: [tensors, len(FIELDS) + 64], as `summarise` gives them.

    Raises:
        TypeError: a tensor is complex: magnitude or parts, whichever is meant, must be chosen by the caller.
    """
    packed = np.full((len(tensors), WIDTH), math.nan)
    flats = [_flat(t) for t in tensors]
    there = np.array([on_host(flat) for flat in flats], dtype=bool)
    if there.any():
        packed[there] = _exact_on_host([f for f, host in zip(flats, there) if host], kurtosis)
    if not there.all():
        packed[~there] = _exact([f for f, host in zip(flats, there) if not host], kurtosis)
    return packed


def _exact_on_host(flats: list[Tensor], kurtosis: bool) -> np.ndarray:
    rows = compiled().Rows.whole(np.array([f.numel() for f in flats], dtype=np.int64))
    return read(np.array([f.data_ptr() for f in flats]), rows, kurtosis, True)


def read(addresses: np.ndarray, rows: Any, kurtosis: bool, extremes: bool, shift: int = 0) -> np.ndarray:
    """`compiled.statistics`; where it is much, in as many threads as PyTorch uses: what is compiled lets others run."""
    host = compiled()
    count = min(torch.get_num_threads(), _MOST_THREADS, rows.total // _PART) if rows.total > 2 * _PART else 1
    if count < 2:
        return host.statistics(addresses, rows, kurtosis, extremes, shift)
    packed = np.empty((len(addresses), WIDTH))
    shares, load = [[] for _ in range(count)], [0] * count
    for i in np.argsort(-rows.lengths).tolist():  # the largest first, each to who has least
        least = load.index(min(load))
        shares[least].append(i)
        load[least] += rows.lengths[i]

    def of(share: list[int]) -> None:
        packed[share] = host.statistics(addresses[share], rows.of(share), kurtosis, extremes, shift)

    others = [_threads().submit(of, share) for share in shares[1:] if share]
    of(shares[0])
    for other in others:
        other.result()
    return packed


@lru_cache(1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS - 1, thread_name_prefix="diagnose.stats")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child process has none of them


def _exact(flats: list[Tensor], kurtosis: bool) -> np.ndarray:
    packed = np.full((len(flats), WIDTH), math.nan)
    put, counted = {f: packed[:, i] for f, i in PUT.items()}, np.zeros((len(flats), 2, _FULL), dtype=np.int64)
    sums = [_sums(flat, counts) for flat, counts in zip(flats, counted)]
    count, total, square, put["min"][:], put["max"][:] = np.array(sums).reshape(-1, 5).T
    n = np.maximum(count, 1)
    top, histogram = _folded_on_host(counted)
    put["count"][:], put["top"][:], packed[:, len(FIELDS) :] = count, top, histogram
    put["zeros"][:], put["nonfinite"][:] = histogram[:, WINDOW + 1] / n, histogram[:, -1] / n
    put["negatives"][:] = histogram[:, : WINDOW + 1].sum(1) / n
    with np.errstate(all="ignore"):
        mean, second = total / n, square / n
        put["mean"][:], put["std"][:] = mean, np.sqrt(np.maximum(second - mean**2, 0))
        odd = (histogram[:, -1] > 0) | ((top > NOTHING) & ((top < _SAFE[0]) | (top > _SAFE[1])))
        near = (mean**2 > NEAR * second) & (second > 0)
    for i, flat in enumerate(flats):
        if not count[i]:
            for field in ("mean", "std", "zeros", "negatives", "nonfinite"):
                put[field][i] = math.nan
        elif odd[i]:
            packed[i] = _merged_rows(flat, kurtosis)
        else:
            if near[i]:
                put["mean"][i], put["std"][i] = _about(flat, mean[i])
            if kurtosis and put["std"][i] > 0:
                put["kurtosis"][i] = _fourth(flat, put["mean"][i], put["std"][i]) / n[i] - 3
    return packed


def _flat(tensor: Tensor) -> Tensor:
    "All elements, in whatever order, in float32 or float64."
    tensor = real(tensor).detach()
    if not tensor.is_contiguous() and dense(tuple(tensor.shape), tensor.stride()):
        flat = tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    else:
        flat = tensor.reshape(-1)
    if flat.dtype in (torch.float32, torch.float64):
        return flat
    return flat.double() if flat.dtype in (torch.int32, torch.int64) else flat.float()


@lru_cache(4096)
def dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether the elements fill a stretch of memory without gap or overlap, in whatever order."""
    expected = 1
    for step, size in sorted(zip(stride, shape)):
        if size == 1:
            continue
        if step != expected:
            return False
        expected *= size
    return True


def _sums(flat: Tensor, counts: np.ndarray) -> tuple[float, float, float, float, float]:
    "Count, sum, sum of squares, least and largest; the histogram goes to `counts` [2, 512]."
    if not flat.numel():
        return 0, 0.0, 0.0, math.nan, math.nan
    found = []
    histogram = torch.zeros(2 * _FULL, dtype=torch.int64, device=flat.device)
    for x in flat.split(_PART):
        where = _bits(x, _scratch(x.numel(), x.dtype, x.device)).add_(_FULL)
        counted = torch.bincount if x.device.type == "cpu" else _bincount_without_waiting
        histogram += counted(where, minlength=2 * _FULL)
        found.append(torch.stack([x.sum(), torch.linalg.vector_norm(x), x.amin(), x.amax()]))
    counts[:] = histogram.cpu().numpy().reshape(2, _FULL)
    each = torch.stack(found).double().cpu().numpy()
    return flat.numel(), each[:, 0].sum(), (each[:, 1] ** 2).sum(), each[:, 2].min(), each[:, 3].max()


def _about(flat: Tensor, mean: float) -> tuple[float, float]:
    "Mean and standard deviation from the distances to a number near the mean, where the squares are nearly all mean."
    near, found = float(torch.tensor(mean, dtype=flat.dtype)), []
    for x in flat.split(_PART):
        apart = torch.sub(x, near, out=_scratch(x.numel(), x.dtype, x.device))
        found.append(torch.stack([apart.sum(), torch.linalg.vector_norm(apart)]))
    each = torch.stack(found).double().cpu().numpy()
    more = each[:, 0].sum() / flat.numel()
    return near + more, math.sqrt(max((each[:, 1] ** 2).sum() / flat.numel() - more**2, 0.0))


def _fourth(flat: Tensor, mean: float, std: float) -> float:
    "The sum of the fourth powers of what is left when mean and spread are taken out."
    found = []
    for x in flat.split(_PART):
        work = torch.sub(x, mean, out=_scratch(x.numel(), x.dtype, x.device))
        found.append(torch.linalg.vector_norm(work.mul_(1 / std).square_()))
    return float(torch.stack(found).double().square().sum())


def _merged_rows(flat: Tensor, kurtosis: bool) -> np.ndarray:
    "The statistics of one tensor from those of its rows: for what is not finite, far from zero, huge or tiny."
    width = 2**16
    if flat.numel() <= width:
        return summarise(flat[None], kurtosis=kurtosis)[0]
    whole = flat.numel() // width * width
    parts = [summarise(flat[:whole].view(-1, width))] if whole else []
    if whole < flat.numel():
        parts.append(summarise(flat[None, whole:]))
    with np.errstate(all="ignore"):
        return _merged(np.concatenate(parts), flat if kurtosis else None)


def _merged(parts: np.ndarray, flat: Tensor | None) -> np.ndarray:
    "The statistics of a whole from those of its parts; kurtosis, if wanted, from a second pass over the whole."
    put = {f: parts[:, i] for f, i in PUT.items()}
    count, nonfinite = put["count"], put["nonfinite"]
    n, finite = count.sum(), count * (1 - nonfinite)
    whole = np.full(parts.shape[1], math.nan)
    whole[PUT["count"]] = n
    for field in ("zeros", "negatives", "nonfinite"):
        whole[PUT[field]] = (put[field] * count).sum() / n
    whole[PUT["top"]] = top = put["top"].max()
    whole[len(FIELDS) :] = _aligned(parts[:, len(FIELDS) :], put["top"], top)
    used = finite > 0
    if not used.any():
        return whole
    share, means, stds = finite[used] / finite.sum(), put["mean"][used], put["std"][used]
    size = max(np.abs(means).max(), stds.max(), 5e-324)
    mean = (share * (means / size)).sum()
    std = math.sqrt((share * ((stds / size) ** 2 + (means / size - mean) ** 2)).sum())
    whole[PUT["mean"]], whole[PUT["std"]] = mean * size, std * size
    whole[PUT["min"]], whole[PUT["max"]] = put["min"][used].min(), put["max"][used].max()
    if flat is not None and std > 0:
        fourth = 0.0
        for chunk in flat.split(_PART):
            z = chunk[torch.isfinite(chunk)].double() / size
            fourth += float(((z - mean) / std).pow(4).sum())
        whole[PUT["kurtosis"]] = fourth / finite.sum() - 3
    return whole


def _aligned(histograms: np.ndarray, tops: np.ndarray, top: float) -> np.ndarray:
    "Histograms of several rows added up, each first moved to the window of the largest."
    total = np.zeros(BINS)
    total[WINDOW + 1], total[-1] = histograms[:, WINDOW + 1].sum(), histograms[:, -1].sum()
    down = np.minimum(top - tops, 2 * WINDOW).astype(np.int64)[:, None]
    place = np.minimum(np.arange(WINDOW + 1) + down, WINDOW)
    np.add.at(total, place, histograms[:, : WINDOW + 1])
    np.add.at(total, BINS - 2 - place, histograms[:, WINDOW + 2 : -1][:, ::-1])
    return total


_kept = threading.local()


def _scratch(elements: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    "Memory to work in, kept between calls: fresh pages would cost more than the arithmetic."
    kept = _kept.__dict__.setdefault("scratch", {})
    if (dtype, device) not in kept or len(kept[dtype, device]) < elements:
        kept[dtype, device] = torch.empty(elements, dtype=dtype, device=device)
    return kept[dtype, device][:elements]


def _chunk_sums(x: Tensor) -> Tensor:
    "Sums of 16 neighbours each of x [steps, width], in a line."
    x = x.reshape(-1, CHUNK)
    if x.device.type == "cpu":  # half the time of a sum over an axis as short
        return torch.mv(x, x.new_ones(CHUNK))
    return x.sum(1)


def _folded(counts: Tensor) -> tuple[Tensor, Tensor]:
    "The top half-octave of every row, and its 64 bins, of [rows, 2, 512] counts by sign and half-octave."
    if counts.device.type == "cpu":
        return tuple(map(torch.from_numpy, _folded_on_host(counts.numpy())))
    zero, nonfinite = counts[:, :, 0].sum(1), counts[:, :, _FULL - 2 :].sum((1, 2))
    finite = counts[:, :, 1 : _FULL - 2]
    places = torch.arange(1, _FULL - 2, dtype=torch.int16, device=counts.device)
    top = (finite[:, 0] + finite[:, 1] > 0).mul(places).amax(1).long()
    window = (top[:, None] - torch.arange(WINDOW, device=counts.device)).clamp_min_(1)
    inside = counts.gather(2, window[:, None].expand(-1, 2, -1))
    inside *= (top[:, None] > torch.arange(WINDOW, device=counts.device))[:, None]  # below the first there is nothing
    rest = finite.sum(2) - inside.sum(2)
    middle = torch.stack([rest[:, 0], zero, rest[:, 1]], 1)
    histogram = torch.cat([inside[:, 0], middle, inside[:, 1].flip(1), nonfinite[:, None]], 1)
    return torch.where(top > 0, top - _BIAS, NOTHING), histogram


def _folded_on_host(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "The same in NumPy: most half-octaves are empty in all rows, and what is left is too little for a device's calls."
    used = np.flatnonzero(counts.sum((0, 1))[1 : _FULL - 2])
    first, last = (int(used[0]) + 1, int(used[-1]) + 2) if len(used) else (1, 2)
    finite = counts[:, :, last - 1 : first - 1 : -1]  # the largest first
    has = (finite[:, 0] + finite[:, 1]) != 0
    above = has.argmax(1)  # half-octaves of other rows above this row's top
    below = np.arange(last - first) - above[:, None]
    np.clip(below, 0, WINDOW, out=below)
    row = BINS * np.arange(len(counts))[:, None]
    where = np.stack([row + below, row + (BINS - 2) - below], 1)
    histogram = np.bincount(where.ravel(), finite.ravel(), BINS * len(counts)).reshape(-1, BINS)
    histogram[:, WINDOW + 1] = counts[:, :, 0].sum(1)
    histogram[:, -1] = counts[:, :, _FULL - 2 :].sum((1, 2))
    return np.where(has.any(1), last - 1 - above - _BIAS, NOTHING), histogram


def real(tensor: Tensor) -> Tensor:
    """A dense tensor of the elements that have a value; those that a sparse tensor leaves out are not among them.

    Raises:
        TypeError: the tensor is complex.
    """
    if tensor.is_complex():
        raise TypeError("a complex tensor has no order: take its magnitude, or its real and imaginary part")
    return _values(tensor) if tensor.layout == torch.sparse_coo else tensor.to_dense() if _odd(tensor) else tensor


def _odd(tensor: Tensor) -> bool:
    return tensor.layout != torch.strided


def histogram_edges(top: int) -> np.ndarray:
    """The 64 edges of a histogram's 63 bins of finite numbers; the zero bin, index 31, holds exact zeros.

    The outermost bins end at the magnitude where the next half-octave would start; the bins beside zero begin at 0.
    """
    halves = np.arange(top - WINDOW + 1, top + 2)
    magnitude = np.where(halves % 2, 1.5, 1.0) * np.exp2(np.floor_divide(halves, 2).astype(float))
    return np.concatenate([-magnitude[::-1], [-0.0, 0.0], magnitude])


def _lifted(m: Tensor, out: Tensor | None = None) -> Tensor:
    "The same numbers times 2^24 as float32, a copy; what float32 cannot hold stands at the largest it can."
    if m.dtype == torch.float32:
        return torch.mul(m, 2.0**_LIFT, out=out)
    f = m.float()
    largest = torch.finfo(torch.float32).max
    f = torch.where(torch.isinf(f) & torch.isfinite(m), torch.sign(m).float() * largest, f)
    smallest = 2.0**-149
    return torch.where((f == 0) & (m != 0), torch.sign(m).float() * smallest, f) * 2.0**_LIFT


def _bits(m: Tensor, out: Tensor | None = None) -> Tensor:
    "Sign, exponent and first bit of the mantissa as int32 in [−512, 511], the negative numbers below zero."
    return _lifted(m, out).view(torch.int32).bitwise_right_shift_(22)


def _bincount_without_waiting(where: Tensor, minlength: int) -> Tensor:
    "`torch.bincount` asks the device for the largest value, and waits for the answer."
    counts = torch.zeros(minlength, dtype=torch.int64, device=where.device)
    return counts.scatter_add_(0, where.long(), torch.ones_like(where, dtype=torch.int64))


LIMITS = {nn.Sigmoid: (0.0, 1.0), nn.Tanh: (-1.0, 1.0), nn.Hardsigmoid: (0.0, 1.0), nn.Hardtanh: (-1.0, 1.0)}
AT_LIMIT = 0.01  # from a limit on: a unit of a hidden layer passes next to no gradient there


def at_limits(kind: type[nn.Module], output: Tensor) -> Tensor:
    """Which values of the output of a bounded activation of that kind are saturated."""
    low, high = LIMITS[kind]
    return (output <= low + AT_LIMIT) | (output >= high - AT_LIMIT)


def unit_axis(output: Tensor) -> int:
    """The axis along which the units of a layer's output lie: 1 for maps (b, c, h, w) and volumes, else the last."""
    return 1 if output.ndim in (4, 5) else output.ndim - 1


def fires(output: Tensor, axis: int) -> np.ndarray | Tensor:
    """[units] whether anything along that axis is not exactly zero: an array, or a tensor on the output's device."""
    output = plain(output).detach()
    if on_host(output) and output.is_contiguous():
        return compiled().fires(output.data_ptr(), tuple(output.shape), axis)
    others = [d for d in range(output.ndim) if d != axis]
    if not others:
        return output != 0
    return (output.amax(others) != 0) | (output.amin(others) != 0)
