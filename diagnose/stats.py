"""Pure tensor statistics: the one kernel that gauges and checks share. Nothing here changes its arguments."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def tensors(tree: Any) -> list[Tensor]:
    """Every tensor of a nested structure of tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    return (
        [t for part in tree for t in tensors(part)] if isinstance(tree, Iterable) and not isinstance(tree, str) else []
    )


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


def rows_changed(before: Tensor, after: Tensor, tolerance: float = 1e-5) -> list[int]:
    """Indices along dimension 0 whose values differ by more than `tolerance` of the largest magnitude in `before`."""
    if not before.numel():
        return []
    size = before.detach().abs().float().max().clamp_min(1e-30)
    gap = (after.detach().float() - before.detach().float()).abs().reshape(before.shape[0], -1).amax(1)
    return (~(gap <= tolerance * size)).nonzero().flatten().tolist()


# ---- the statistics kernel: many tensors in one pass -----------------------------------------------------------

BINS = 64  # of a histogram: 31 of negative numbers, zero, 31 of positive ones, and one for what is not finite
_WINDOW = 30  # bins of each sign below the largest magnitude: 15 octaves, two bins an octave
_LIFT = 24  # float32's smallest denormal times 2^24 is a normal number, so that only zero has an exponent of zero
_FULL = 512  # bins of one sign, as the bits give them: 8 of the exponent and the first of the mantissa
_BIAS = 2 * (127 + _LIFT)  # index of the half-octave that starts at 1
_SAFE = (-100, 120)  # half-octaves whose squares float32 holds; what lies outside is done in float64
_CHUNK = 16  # elements that stand together in memory: a cache line of float32; they are correlated
_PART = 2**18  # elements taken at a time, so that the memory to work in stays in the cache
FIELDS = ("count", "mean", "std", "min", "max", "kurtosis", "zeros", "negatives", "nonfinite", "error", "top")
_PUT = {field: i for i, field in enumerate(FIELDS)}


class Summary:
    """Statistics of many tensors, one row each, as NumPy arrays: an attribute for each of `FIELDS`, and `histogram`.

    Attributes:
        count: elements read.
        mean, std, min, max, kurtosis: of the finite elements; NaN if there is none. `std` is the population's,
            `kurtosis` Fisher's, 0 for a normal distribution (NaN unless asked for), `min` and `max` NaN unless exact.
        zeros, negatives, nonfinite: shares in [0, 1] of the elements read; minus zero is a zero.
        error: standard error of the mean, from the spread between chunks of 16 neighbours (Cochran 1977, ch. 9:
            neighbours are correlated, so chunks are the sampling unit); NaN for fewer than 8 whole chunks.
        top: which half-octave holds the largest finite magnitude, counted from the one that starts at 1; −10000 if
            none is above zero. See `histogram_edges`.
        histogram: [rows, 64] counts, in ascending order of value, the last one what is not finite. Two bins an octave,
            with edges at 1 and 1.5 times powers of two that are the same for every tensor at every step; the 15
            octaves below `top` have bins of their own, what is smaller shares one bin of each sign.
    """

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    kurtosis: np.ndarray
    zeros: np.ndarray
    negatives: np.ndarray
    nonfinite: np.ndarray
    error: np.ndarray
    top: np.ndarray
    histogram: np.ndarray

    def __init__(self, packed: np.ndarray):
        for i, field in enumerate(FIELDS):
            setattr(self, field, packed[:, i])
        self.histogram = packed[:, len(FIELDS) :]

    def l2(self, size: np.ndarray) -> np.ndarray:
        """L2 norm of the finite elements of tensors of `size` elements, scaled up from what was read."""
        return np.sqrt(size * (1 - self.nonfinite)) * np.hypot(self.mean, self.std)


def summarise(rows: Tensor, counts: Tensor | None = None, kurtosis: bool = False, extremes: bool = True) -> Tensor:
    """Every statistic of every row in a few passes, on the rows' device, packed for one transfer to the host.

    Args:
        rows: [R, W] float32 or float64, left as it is.
        counts: [R] how many elements of a row, from its start, are meant (at least 1); None for all.
        kurtosis, extremes: whether to compute these too.

    Returns:
        [R, len(FIELDS) + 64] float64, to be read as `Summary(packed.numpy())`.
    """
    if counts is None:
        counts = torch.full((len(rows),), rows.shape[1])
    if not len(rows):
        return torch.zeros((0, len(FIELDS) + BINS), dtype=torch.float64, device=rows.device)
    return _summarise(rows, counts.to(rows.device), kurtosis, extremes)


def summary(tensor: Tensor, kurtosis: bool = True) -> Summary:
    """Statistics of all elements of one tensor: a `Summary` of one row.

    Raises:
        TypeError: the tensor is complex.
    """
    return Summary(exact(tensor, kurtosis)[None].cpu().numpy())


def exact(tensor: Tensor, kurtosis: bool = True) -> Tensor:
    """The packed statistics of all elements of one tensor, on its device: one row of `summarise`.

    Raises:
        TypeError: the tensor is complex: magnitude or parts, whichever is meant, must be chosen by the caller.
    """
    flat = real(tensor).detach().reshape(-1)
    size = flat.numel()
    if not size:
        return _empty(flat.device)
    if flat.dtype not in (torch.float32, torch.float64):
        flat = flat.double() if flat.dtype in (torch.int32, torch.int64) else flat.float()
    width = 4096 if size < 2**18 else 2**16  # long rows have fewer histograms to fold
    if size <= width:
        return summarise(flat[None], kurtosis=kurtosis)[0]
    whole = size // width * width
    parts = [summarise(flat[:whole].view(-1, width), kurtosis=kurtosis)]
    if whole < size:
        parts.append(summarise(flat[None, whole:], kurtosis=kurtosis))
    return _merged(torch.cat(parts), flat if kurtosis else None)


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


def _empty(device: torch.device) -> Tensor:
    packed = torch.full((len(FIELDS) + BINS,), math.nan, dtype=torch.float64, device=device)
    packed[len(FIELDS) :] = 0
    packed[_PUT["count"]] = 0
    packed[_PUT["top"]] = _NOTHING
    return packed


_NOTHING = -10000


def _summarise(m: Tensor, counts: Tensor, kurtosis: bool, extremes: bool) -> Tensor:
    rows, width = m.shape
    n, put = counts.double(), _PUT
    inside = None
    if bool((counts < width).any()):
        inside = torch.arange(width, device=m.device) < counts[:, None]
        m = torch.where(inside, m, m[:, :1])  # padding repeats the first element: as a difference to it, it is zero
    whole = width % _CHUNK == 0
    step = max(_PART // width, 1)
    scratch = _scratch(min(rows, step), width, m.dtype, m.device)
    packed = torch.full((rows, len(FIELDS) + BINS), math.nan, dtype=torch.float64, device=m.device)
    offset, second, fourth = (torch.empty_like(n) for _ in range(3))
    error = torch.full_like(n, math.nan)
    full = torch.empty((rows, 2 * _FULL), dtype=torch.int32, device=m.device)
    for i in range(0, rows, step):
        part, at = m[i : i + step], slice(i, i + step)
        work = scratch[: len(part)]
        full[at] = _full_histogram(part, work)
        torch.sub(part, part[:, :1], out=work)
        if whole:
            chunks = work.view(len(part), width // _CHUNK, _CHUNK).sum(2)
            total = chunks.sum(1)
            if (count := chunks.shape[1]) >= 8:
                apart = torch.linalg.vector_norm(
                    chunks - total[:, None] / count, dim=1
                )  # `std` takes ten times as long
                error[at] = (apart / (_CHUNK * (count * (count - 1)) ** 0.5)).double()
        else:
            total = work.sum(1)
        offset[at] = total.double() / n[at]
        second[at] = torch.linalg.vector_norm(work, dim=1).double() ** 2 / n[at]
        if extremes:
            packed[at, put["min"]], packed[at, put["max"]] = part.amin(1).double(), part.amax(1).double()
        if kurtosis:
            spread = (second[at] - offset[at] ** 2).clamp_min(1e-300).sqrt()[:, None].to(m.dtype)
            work.sub_(offset[at, None].to(m.dtype)).div_(spread).square_()
            fourth[at] = torch.linalg.vector_norm(work, dim=1).double() ** 2
    variance = second - offset**2
    if inside is not None:
        first = _bits(m[:, :1].contiguous())[:, 0].long() + _FULL
        full.scatter_add_(1, first[:, None], (counts - width).to(full.dtype)[:, None])
        error.masked_fill_(counts < width, math.nan)
    top, hist = _folded(full)
    nonfinite = hist[:, -1]
    packed[:, put["count"]] = n
    packed[:, put["mean"]] = m[:, 0].double() + offset
    packed[:, put["std"]] = variance.clamp_min(0).sqrt()
    packed[:, put["zeros"]] = hist[:, _WINDOW + 1] / n
    packed[:, put["negatives"]] = hist[:, : _WINDOW + 1].sum(1) / n
    packed[:, put["nonfinite"]] = nonfinite / n
    packed[:, put["error"]] = error
    packed[:, put["top"]] = top.double()
    packed[:, len(FIELDS) :] = hist
    if kurtosis:
        std = variance.clamp_min(1e-300).sqrt()
        fourth -= (width - n) * (offset / std) ** 4
        packed[:, put["kurtosis"]] = torch.where(variance > 0, fourth / n - 3, math.nan)
    hard = (nonfinite > 0) | ((top > _NOTHING) & ((top < _SAFE[0]) | (top > _SAFE[1])))
    hard |= (offset**2 > 0.98 * second) & (second > 0)
    if bool(hard.any()):
        _redo(packed, m, inside, hard, put, kurtosis, extremes)
    return packed


_kept = threading.local()


def _scratch(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    "Memory to work in, kept between calls: fresh pages would cost more than the arithmetic."
    key = (width, dtype, device)
    kept = _kept.__dict__.setdefault("scratch", {})
    if key not in kept or len(kept[key]) < rows:
        kept[key] = torch.empty((rows, width), dtype=dtype, device=device)
    return kept[key]


def _redo(packed: Tensor, m: Tensor, inside: Tensor | None, hard: Tensor, put: dict, kurtosis: bool, extremes: bool):
    "What float32 cannot square, or what is not finite: the same in float64, over the finite elements."
    for row in hard.nonzero()[:, 0].tolist():
        x = (m[row] if inside is None else m[row][inside[row]]).double()
        count, x = x.numel(), x[torch.isfinite(x)]
        packed[row, put["nonfinite"]] = 1 - x.numel() / count
        for field in ("mean", "std", "min", "max", "kurtosis", "error"):
            packed[row, put[field]] = math.nan
        _redo_histogram(packed[row, len(FIELDS) :], packed[row], x, count, put["top"])
        packed[row, put["zeros"]], packed[row, put["negatives"]] = (
            int((x == 0).sum()) / count,
            int((x < 0).sum()) / count,
        )
        if not x.numel():
            continue
        size = x.abs().max().clamp_min(5e-324)
        centred = x / size - (mean := (x / size).mean())
        variance = centred.square().mean()
        packed[row, put["mean"]], packed[row, put["std"]] = mean * size, variance.sqrt() * size
        if extremes:
            packed[row, put["min"]], packed[row, put["max"]] = x.min(), x.max()
        if kurtosis:
            packed[row, put["kurtosis"]] = centred.pow(4).mean() / variance.square() - 3


def _redo_histogram(histogram: Tensor, row: Tensor, finite: Tensor, count: int, top: int) -> None:
    histogram.zero_()
    histogram[-1] = count - finite.numel()
    histogram[_WINDOW + 1] = (finite == 0).sum()
    finite = finite[finite != 0]
    row[top] = _NOTHING
    if not finite.numel():
        return
    mantissa, exponent = torch.frexp(finite)  # mantissa in [0.5, 1)
    half = 2 * (exponent.long() - 1) + (mantissa.abs() >= 0.75).long()
    row[top] = half.max()
    below = (half.max() - half).clamp_max(_WINDOW)  # 0 for the largest, _WINDOW for what shares one bin
    place = torch.where(finite < 0, below, BINS - 2 - below)
    histogram.index_add_(0, place, torch.ones_like(finite))


def _folded(full: Tensor) -> tuple[Tensor, Tensor]:
    "The top half-octave of every row, and its 64 bins."
    signs = full.view(len(full), 2, _FULL)
    both = signs[:, 0] + signs[:, 1]
    j = torch.arange(_FULL, dtype=torch.int32, device=full.device)
    top = torch.where((both > 0) & (j < _FULL - 2) & (j > 0), j, 0).amax(1)
    window = (top[:, None] - j[:_WINDOW]).clamp_min(1).long()  # bin 1 is always empty
    negative, positive = signs[:, 0].gather(1, window), signs[:, 1].gather(1, window)
    total = signs[:, :, 1 : _FULL - 2].sum(2, dtype=torch.int32)
    histogram = torch.cat(
        [
            negative,
            (total[:, 0] - negative.sum(1, dtype=torch.int32))[:, None],
            both[:, :1],
            (total[:, 1] - positive.sum(1, dtype=torch.int32))[:, None],
            positive.flip(1),
            both[:, -2:].sum(1, keepdim=True, dtype=torch.int32),
        ],
        1,
    )
    return torch.where(top > 0, top - _BIAS, _NOTHING), histogram


def histogram_edges(top: int) -> np.ndarray:
    """The 64 edges of a histogram's 63 bins of finite numbers; the zero bin, index 31, holds exact zeros.

    The outermost bins end at the magnitude where the next half-octave would start; the bins beside zero begin at 0.
    """
    halves = np.arange(top - _WINDOW + 1, top + 2)
    magnitude = np.where(halves % 2, 1.5, 1.0) * np.exp2(np.floor_divide(halves, 2).astype(float))
    return np.concatenate([-magnitude[::-1], [-0.0, 0.0], magnitude])


def _merged(parts: Tensor, flat: Tensor | None) -> Tensor:
    "The statistics of a whole from those of its parts; kurtosis, if wanted, from a second pass over the whole."
    put = _PUT
    count, nonfinite = parts[:, put["count"]], parts[:, put["nonfinite"]]
    n, finite = count.sum(), count * (1 - nonfinite)
    used = finite > 0
    whole = _empty(parts.device)
    whole[put["count"]] = n
    for field in ("zeros", "negatives", "nonfinite"):
        whole[put[field]] = (parts[:, put[field]] * count).sum() / n
    top = parts[:, put["top"]].max()
    whole[put["top"]] = top
    whole[len(FIELDS) :] = _aligned(parts[:, len(FIELDS) :], parts[:, put["top"]], top)
    if not bool(used.any()):
        return whole
    parts, finite = parts[used], finite[used]
    share = finite / finite.sum()
    means, stds = parts[:, put["mean"]], parts[:, put["std"]]
    size = torch.maximum(means.abs().max(), stds.max()).clamp_min(5e-324)
    mean = (share * (means / size)).sum()
    std = (share * ((stds / size) ** 2 + (means / size - mean) ** 2)).sum().sqrt()
    whole[put["mean"]], whole[put["std"]] = mean * size, std * size
    whole[put["min"]], whole[put["max"]] = parts[:, put["min"]].min(), parts[:, put["max"]].max()
    if flat is not None:
        safe = bool(nonfinite.sum() == 0) and _SAFE[0] <= float(top) <= _SAFE[1]
        fourth = flat.new_zeros((), dtype=torch.float64)
        for chunk in flat.split(2**18):
            if safe:
                z = (chunk - (mean * size).to(chunk.dtype)).div_((std * size).to(chunk.dtype)).square_()
                fourth += torch.linalg.vector_norm(z).double() ** 2
            else:
                z = chunk[torch.isfinite(chunk)].double() / size
                fourth += ((z - mean) / std).pow(4).sum()
        whole[put["kurtosis"]] = fourth / finite.sum() - 3
    return whole


def _aligned(histograms: Tensor, tops: Tensor, top: Tensor) -> Tensor:
    "Histograms of several rows added up, each first moved to the window of the largest."
    total = histograms.new_zeros(BINS)
    total[_WINDOW + 1], total[-1] = histograms[:, _WINDOW + 1].sum(), histograms[:, -1].sum()
    down = (top - tops)[:, None].clamp_max(2 * _WINDOW).long()
    bins = torch.arange(_WINDOW + 1, device=histograms.device)[None]
    place = (bins + down).clamp_max(_WINDOW).expand(len(histograms), -1).reshape(-1)
    total.index_add_(0, place, histograms[:, : _WINDOW + 1].reshape(-1))
    total.index_add_(0, BINS - 2 - place, histograms[:, _WINDOW + 2 : -1].flip(1).reshape(-1))
    return total


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


def _full_histogram(m: Tensor, work: Tensor) -> Tensor:
    "[R, 1024] counts by sign, exponent and first bit of the mantissa."
    rows = len(m)
    where = _bits(m, work)
    where += torch.arange(rows, dtype=torch.int32, device=m.device)[:, None] * (2 * _FULL) + _FULL
    counted = torch.bincount if m.device.type == "cpu" else _bincount_without_waiting
    return counted(where.view(-1), minlength=rows * 2 * _FULL).view(rows, 2 * _FULL)


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
