"""The statistics of `stats`, compiled for the processor: one pass over float32 numbers where they lie in memory.

A step of a small net takes tens of milliseconds and leaves nothing of PyTorch's code in the caches, so that every kind
of call costs 25 to 40 µs the first time in a step, whatever it computes. Here all tensors take one call.

Tensors come as what `Rows` says of them: an address, and runs of neighbours. Whoever calls keeps them alive.
"""

from __future__ import annotations

import functools
import logging
import math

import numba
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from diagnose.packed import BINS, CHUNK, FIELDS, LONG_CHUNK, NEAR, NOTHING, WINDOW, start

log = logging.getLogger("diagnose")

_FIELDS, _EACH = len(FIELDS), np.uint64(CHUNK)
_TABLES = 4  # of counts: successive numbers of one bin must not wait for each other
_EXPONENTS = 512  # bins of one sign: 8 bits of the exponent and the first of the mantissa
_BIAS = 2 * 127  # of the half-octave that starts at 1
_INFINITE = 510  # from here on: infinities and NaN
_NORMAL = 2  # from here on: what is not zero or denormal
_BLOCK = 4096  # elements taken at a time, so that what is read twice is in the cache
_LARGEST = np.int32(2**31 - 1)
_SIZE = np.uint32(2**31 - 1)  # all bits but the sign: minus zero is a zero
_FAST = {"reassoc", "contract", "nsz"}  # sums in any order; what is not finite keeps its meaning


def _kept(function):
    "Compiled once an installation, or once a process."
    options = {"nogil": True, "error_model": "numpy", "fastmath": _FAST}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        return njit(**options)(function)


@intrinsic
def _pointer(typing_context, address):
    "An integer as a pointer."

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


class Rows:
    """How float32 tensors lie in memory and are read, [rows] int64 each.

    Attributes:
        runs: of `unit` neighbours each. gaps: how far from one run's begin to the next one's; 0: one behind the other,
            as in a tensor that is read whole. tails: elements behind the last run.
        rooms: elements by which all runs may be shifted, see `packed.start`.
        unit: 16 or 64, the same for all. total: elements read.
    """

    def __init__(self, runs: np.ndarray, gaps: np.ndarray, tails: np.ndarray, rooms: np.ndarray, unit: int = CHUNK):
        self.runs, self.gaps, self.tails, self.rooms, self.unit = runs, gaps, tails, rooms, unit
        self.lengths = runs * unit + tails
        self.total = int(self.lengths.sum())

    @classmethod
    def whole(cls, lengths: np.ndarray, unit: int = CHUNK) -> Rows:
        """For rows of so many elements each, read whole."""
        none = np.zeros_like(lengths)
        return cls(lengths // unit, none, lengths % unit, none, unit)

    def of(self, indices: list[int]) -> Rows:
        """Some of them."""
        return Rows(*(part[indices] for part in (self.runs, self.gaps, self.tails, self.rooms)), self.unit)


@functools.cache
def enabled() -> bool:
    """Whether what is compiled is used: it is compiled and tried out here, five seconds once an installation.

    Where that fails (no room for the files, a processor that LLVM does not know, NUMBA_DISABLE_JIT), PyTorch does it.
    """
    if numba.config.DISABLE_JIT:
        return False
    try:
        _try_out()
    except Exception as error:
        log.warning("statistics are computed by PyTorch, which is slower: numba failed: %s", error)
        return False
    return True


def _try_out() -> None:
    numbers = np.arange(512, dtype=np.float32)
    address, one = np.array([numbers.ctypes.data]), np.ones(1, dtype=np.int64)
    apart_ = Rows(8 * one, 48 * one, 0 * one, 40 * one)
    for rows in (Rows.whole(np.array([511])), Rows(2 * one, 128 * one, 0 * one, 0 * one, LONG_CHUNK), apart_):
        read = np.concatenate([numbers[r * int(rows.gaps[0] or rows.unit) :][: rows.unit] for r in range(rows.runs[0])])
        read = np.concatenate([read, numbers[len(read) :][: rows.tails[0]]])
        _same(statistics(address, rows, True, True)[0, 1:3], [read.mean(dtype=np.float64), read.std(dtype=np.float64)])
    packed = np.empty(_FIELDS + BINS)
    Reader().read(int(address[0]), apart_, 0, packed)
    _same(packed[1:3], [read.mean(dtype=np.float64), read.std(dtype=np.float64)])
    line = np.zeros((1, 128), dtype=np.float32)
    gather(address, apart_, line[0], np.zeros(1, dtype=np.int64))
    starts = np.array([0, 128])
    _same(distances(line, line + 1, starts), [[128]])
    lines, sums = Lines(starts), np.zeros((1, 3))
    look(address, apart_, Rows.whole(128 * one), True, lines, sums)
    _same(sums, [[(read.astype(np.float64) ** 2).sum(), 0, 0]])
    _same(moved(address, apart_, lines), [0])
    _same(products(line, line, starts), [[(read.astype(np.float64) ** 2).sum()]])
    _same(fires(numbers.ctypes.data, (2, 256), 1), [True] * 256)


def _same(found: np.ndarray, expected: list) -> None:
    if not np.allclose(found, expected, rtol=1e-6):
        raise ArithmeticError(f"{found} instead of {expected}")


def statistics(addresses: np.ndarray, rows: Rows, kurtosis: bool, extremes: bool, shift: int = 0) -> np.ndarray:
    """[rows, len(FIELDS) + 64] statistics, to be read as `Summary`.

    Args:
        addresses: [rows] int64, of the first number of each. kurtosis: whether to compute it too.
        extremes: the same; of rows that are read whole. shift: see `packed.start`.
    """
    packed = np.empty((len(addresses), _FIELDS + BINS))
    _statistics(addresses, rows.runs, rows.gaps, rows.tails, rows.rooms, rows.unit, shift, packed, kurtosis, extremes)
    return packed


_start = _kept(start)


@_kept
def _statistics(addresses, runs, gaps, tails, rooms, unit, shift, packed, kurtosis, extremes):
    counts = np.empty((_TABLES, 2 * _EXPONENTS), np.int32)
    buffer = np.empty(_longest(runs, gaps, tails, unit), np.float32)
    for i in range(len(addresses)):
        _row(
            *(addresses[i], runs[i], gaps[i], tails[i], rooms[i], unit, shift),
            *(packed[i], kurtosis, extremes, counts, buffer),
        )


class Reader:
    """Reads one tensor after the other, in the middle of a pass."""

    def __init__(self):
        self._counts = np.empty((_TABLES, 2 * _EXPONENTS), np.int32)
        self._buffer = np.empty(0, np.float32)

    def read(self, address: int, rows: Rows, shift: int, packed: np.ndarray) -> None:
        """Statistics of a tensor, with extremes if it is read whole, to `packed` [fields]; `rows` are of it alone."""
        if rows.total > len(self._buffer):
            self._buffer = np.empty(rows.total, np.float32)
        of = rows.runs[0], rows.gaps[0], rows.tails[0], rows.rooms[0]
        _row(address, *of, rows.unit, shift, packed, False, True, self._counts, self._buffer)


@_kept
def _row(address, runs, gap, tail, room, unit, shift, out, kurtosis, extremes, counts, buffer):
    n = runs * unit + tail
    if not gap:
        x = numba.carray(_pointer(address), n, np.float32)
    else:
        begin = address + 4 * _start(shift, room)
        _touch(begin, runs, gap, tail, unit, buffer)
        _gather(begin, runs, gap, tail, unit, buffer)
        x = buffer[:n]
    bits = x.view(np.uint32)
    counts[:] = 0
    total, square, spread, low, high = 0.0, 0.0, 0.0, _LARGEST, -_LARGEST
    for begin in range(0, n, _BLOCK):
        y, y_bits = x[begin : begin + _BLOCK], bits[begin : begin + _BLOCK]
        sums = _sums(y) if unit == CHUNK else _sums_of_long(y)
        total, square, spread = total + sums[0], square + sums[1], spread + sums[2]
        _count(y_bits, counts)  # after what brings the block into the cache
        if extremes and not gap:
            keys = _extremes(y_bits)
            low, high = min(low, keys[0]), max(high, keys[1])
    small, nonfinite = _fold(counts, out)
    out[0] = n
    if nonfinite or not n or (small and small != _zeros(bits)):
        _odd(x, out, kurtosis, extremes and not gap)
        return
    out[6], out[7], out[8] = small / n, out[_FIELDS : _FIELDS + WINDOW + 1].sum() / n, 0.0
    mean = total / n
    variance, fourth = square / n - mean * mean, math.nan
    spread -= total * total / max(n // unit, 1)
    if kurtosis or mean * mean > NEAR * square / n:
        off, second, fourth, spread = _about(x, mean) if unit == CHUNK else _about_long(x, mean)
        mean, variance = mean + off / n, second / n - (off / n) * (off / n)
    variance = max(variance, 0.0)
    out[1], out[2] = mean, math.sqrt(variance)
    out[3], out[4] = (_number(low), _number(high)) if extremes and not gap else (math.nan, math.nan)
    out[5] = fourth / n / (variance * variance) - 3 if kurtosis and variance > 0 else math.nan
    many, k = n % unit == 0 and n >= 8 * unit, n // unit
    out[9] = math.sqrt(max(spread, 0.0)) / (unit * math.sqrt(k * (k - 1.0))) if many else math.nan


@_kept
def _longest(runs, gaps, tails, unit):
    "Elements of the longest row that is not read in one piece."
    found = 0
    for i in range(len(runs)):
        if gaps[i]:
            found = max(found, runs[i] * unit + tails[i])
    return found


@_kept
def _touch(address, runs, gap, tail, unit, keep):
    "Bring the runs into the cache, many at a time: a copy waits for one after the other, four times as long."
    total = np.float32(0)
    x = numba.carray(_pointer(address), _span(runs, gap, tail, unit), np.float32)
    for r in range(np.uint64(runs)):
        total += x[np.uint64(r) * np.uint64(gap)]
    keep[0] = total  # or the compiler leaves it out


@_kept
def _span(runs, gap, tail, unit):
    "Elements from the first to the last of runs that lie apart."
    return runs * gap + tail if tail or not runs else (runs - 1) * gap + unit


@_kept
def _gather(address, runs, gap, tail, unit, to):
    "Copy a row to one piece of memory."
    gap = gap if gap else unit
    x = numba.carray(_pointer(address), _span(runs, gap, tail, unit), np.float32)
    parts = np.uint64(unit // CHUNK)
    for r in range(np.uint64(runs)):
        for q in range(parts):
            at = np.uint64(r) * np.uint64(gap) + np.uint64(q) * _EACH
            put = (np.uint64(r) * parts + np.uint64(q)) * _EACH
            for j in range(_EACH):
                to[put + np.uint64(j)] = x[at + np.uint64(j)]
    at, put = np.uint64(runs) * np.uint64(gap), np.uint64(runs) * np.uint64(unit)
    for j in range(np.uint64(tail)):
        to[put + np.uint64(j)] = x[at + np.uint64(j)]


@_kept
def _count(bits, counts):
    "Counts by sign and half-octave, negative numbers first."
    shift, half, one = np.uint32(22), np.uint32(_EXPONENTS), np.int32(1)
    c0, c1, c2, c3 = counts[0], counts[1], counts[2], counts[3]
    whole = np.uint64(len(bits) // 4 * 4)
    for i in range(np.uint64(0), whole, np.uint64(4)):
        c0[(bits[i] >> shift) ^ half] += one
        c1[(bits[i + np.uint64(1)] >> shift) ^ half] += one
        c2[(bits[i + np.uint64(2)] >> shift) ^ half] += one
        c3[(bits[i + np.uint64(3)] >> shift) ^ half] += one
    for i in range(whole, np.uint64(len(bits))):
        c0[(bits[i] >> shift) ^ half] += one


def _sums_of(unit):
    "For runs of that many: a number that the compiler knows, so that it takes many at a time."
    unit = np.uint64(unit)

    @_kept
    def sums(x):
        "The sum, that of squares, and that of the squares of the sums of runs."
        total, square, spread = 0.0, 0.0, 0.0
        runs = np.uint64(len(x)) // unit
        for r in range(runs):
            a, b = 0.0, 0.0
            for j in range(unit):
                v = np.float64(x[np.uint64(r) * unit + np.uint64(j)])
                a += v
                b += v * v
            total += a
            square += b
            spread += a * a
        for i in range(runs * unit, np.uint64(len(x))):
            v = np.float64(x[i])
            total += v
            square += v * v
        return total, square, spread

    @_kept
    def about(x, mean):
        "Sums of the distances to a number near the mean, of their squares and fourth powers, and of squares by run."
        first, second, fourth, spread = 0.0, 0.0, 0.0, 0.0
        runs = np.uint64(len(x)) // unit
        for r in range(runs):
            a, b, c = 0.0, 0.0, 0.0
            for j in range(unit):
                v = np.float64(x[np.uint64(r) * unit + np.uint64(j)]) - mean
                w = v * v
                a += v
                b += w
                c += w * w
            first += a
            second += b
            fourth += c
            spread += a * a
        for i in range(runs * unit, np.uint64(len(x))):
            v = np.float64(x[i]) - mean
            first += v
            second += v * v
            fourth += v * v * v * v
        return first, second, fourth, spread

    return sums, about


_sums, _about = _sums_of(CHUNK)
_sums_of_long, _about_long = _sums_of(LONG_CHUNK)


@_kept
def _extremes(bits):
    "Least and largest, as integers in the same order: those have instructions that take many at a time."
    low, high, sign, rest = _LARGEST, -_LARGEST, np.int32(31), np.int32(0x7FFFFFFF)
    for i in range(np.uint64(len(bits))):
        k = np.int32(bits[np.uint64(i)])
        k = k ^ ((k >> sign) & rest)
        low, high = min(low, k), max(high, k)
    return low, high


@_kept
def _number(key):
    "The number that `_extremes` gives as an integer."
    one = np.empty(1, np.int32)
    one[0] = key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF))
    return np.float64(one.view(np.float32)[0])


@_kept
def _fold(counts, out):
    "The histogram and its top. Returns how many are zero or denormal, and how many not finite."
    top, nonfinite, small = 0, 0, 0
    total = counts[0]
    for b in range(2 * _EXPONENTS):
        c = counts[0, b] + counts[1, b] + counts[2, b] + counts[3, b]
        total[b] = c
        if c:
            h = b & (_EXPONENTS - 1)
            if h >= _INFINITE:
                nonfinite += c
            elif h >= _NORMAL:
                top = max(top, h)
            else:
                small += c
    out[10] = top - _BIAS if top else NOTHING
    histogram = out[_FIELDS:]
    histogram[:] = 0
    for h in range(_NORMAL, top + 1):
        below = min(top - h, WINDOW)
        histogram[below] += total[h]
        histogram[2 * WINDOW + 2 - below] += total[_EXPONENTS + h]
    histogram[WINDOW + 1] = small
    return small, nonfinite


@_kept
def _zeros(bits):
    found = np.int64(0)
    for i in range(np.uint64(len(bits))):
        found += np.int64((bits[np.uint64(i)] & _SIZE) == np.uint32(0))
    return found


@_kept
def _odd(x, out, kurtosis, extremes):
    "Of the finite elements, where others are among them, or denormal ones."
    n, finite, zeros, negatives, top = len(x), 0, 0, 0, NOTHING
    total, low, high = 0.0, math.inf, -math.inf
    for i in range(n):
        v = np.float64(x[i])
        if math.isfinite(v):
            finite += 1
            total += v
            low, high = min(low, v), max(high, v)
            zeros += v == 0
            negatives += v < 0
            if v != 0:
                top = max(top, _half(v))
    mean = total / finite if finite else math.nan
    second, fourth = 0.0, 0.0
    histogram = out[_FIELDS:]
    histogram[:] = 0
    for i in range(n):
        v = np.float64(x[i])
        if not math.isfinite(v):
            histogram[2 * WINDOW + 3] += 1
            continue
        w = (v - mean) * (v - mean)
        second += w
        fourth += w * w
        below = min(top - _half(v), WINDOW) if v != 0 else WINDOW + 1
        histogram[below if v <= 0 else 2 * WINDOW + 2 - below] += 1
    variance = second / finite if finite else math.nan
    out[1], out[2] = mean, math.sqrt(variance)
    out[3], out[4] = (low, high) if extremes and finite else (math.nan, math.nan)
    out[5] = fourth / finite / (variance * variance) - 3 if kurtosis and variance > 0 else math.nan
    for field, count in ((6, zeros), (7, negatives), (8, n - finite)):
        out[field] = count / n if n else math.nan
    out[9], out[10] = math.nan, top


@_kept
def _half(v):
    "Half-octave of a number that is not zero, counted from the one that starts at 1."
    mantissa, exponent = math.frexp(abs(v))
    return 2 * (exponent - 1) + (mantissa >= 0.75)


def gather(addresses: np.ndarray, rows: Rows, line: np.ndarray, starts: np.ndarray) -> None:
    """Copy rows to `line` [width] float32, each to its place in `starts` [rows]."""
    _gather_all(addresses, rows.runs, rows.gaps, rows.tails, rows.unit, line, starts)


@_kept
def _gather_all(addresses, runs, gaps, tails, unit, line, starts):
    for i in range(len(addresses)):
        to = line[starts[i] :]
        if gaps[i]:
            _touch(addresses[i], runs[i], gaps[i], tails[i], unit, to)
        _gather(addresses[i], runs[i], gaps[i], tails[i], unit, to)


def look(addresses: np.ndarray, rows: Rows, inside: Rows, kurtosis: bool, lines: Lines, sums: np.ndarray) -> np.ndarray:
    """Copy samples to `lines.now`, and read them there while they are in the cache.

    Args:
        addresses, rows: of the tensors. inside: `Rows.whole` of as many elements each.
        sums: [rows, 3], overwritten: of squares of what is read; of its products with `lines.before`; and of the
            squares of its differences from `lines.first`.

    Returns:
        The statistics of the samples, with extremes.
    """
    packed = np.empty((len(addresses), _FIELDS + BINS))
    _look(
        *(addresses, rows.runs, rows.gaps, rows.tails, rows.unit),
        *(lines.addresses, inside.runs, inside.gaps, inside.tails, lines.starts, kurtosis, packed),
        *(lines.now, lines.before, lines.first, sums),
    )
    return packed


@_kept
def _look(
    addresses, runs, gaps, tails, unit, there, its_runs, its_gaps, its_tails, starts, kurtosis, packed,
    now, before, first, sums,
):  # fmt: skip
    _gather_all(addresses, runs, gaps, tails, unit, now, starts)
    _statistics(there, its_runs, its_gaps, its_tails, its_gaps, CHUNK, 0, packed, kurtosis, True)
    for i in range(len(addresses)):
        own, common, apart_ = 0.0, 0.0, 0.0
        for j in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
            v = np.float64(now[j])
            away = v - np.float64(first[j])
            own += v * v
            common += v * np.float64(before[j])
            apart_ += away * away
        sums[i, 0], sums[i, 1], sums[i, 2] = own, common, apart_


def kept(addresses: np.ndarray, rows: Rows, lines: Lines) -> np.ndarray:
    """Copy the samples of tensors to `lines.before`; [rows] their sums of squares."""
    gather(addresses, rows, lines.before, lines.starts[:-1])
    return products(lines.before[None], lines.before[None], lines.starts)[0]


def moved(addresses: np.ndarray, rows: Rows, lines: Lines) -> np.ndarray:
    """[rows] sums of squares of the differences of tensors from `lines.now`; copies them to `lines.before`."""
    gather(addresses, rows, lines.before, lines.starts[:-1])
    return distances(lines.now[None], lines.before[None], lines.starts)[0]


class Lines:
    """Memory for the samples of tensors, one behind the other: of this step, of the one before, and of the first.

    Attributes:
        starts: [rows + 1] where each begins. now, before, first: [elements] float32; `first` is `now` until it is set.
        addresses: [rows] of the rows of `now`.
    """

    def __init__(self, starts: np.ndarray):
        self.starts = starts
        self.now, self.before = (np.zeros(int(starts[-1]), dtype=np.float32) for _ in range(2))
        self.first, self._at = self.now, (self._addresses(self.now), self._addresses(self.before))
        self.addresses = self._at[0]

    def _addresses(self, line: np.ndarray) -> np.ndarray:
        return line.ctypes.data + 4 * self.starts[:-1]

    def swap(self) -> None:
        """What is read becomes what was read before."""
        self.now, self.before = self.before, self.now
        self._at = self._at[::-1]
        self.addresses = self._at[0]


def distances(a: np.ndarray, b: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[steps, rows] sums of squares of a − b by row; a [steps, width], b the same or one step for all."""
    return _in_pairs(a, b, starts, True)


def products(a: np.ndarray, b: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[steps, rows] dot products of the rows of a and b, likewise."""
    return _in_pairs(a, b, starts, False)


@_kept
def _in_pairs(a, b, starts, apart):
    found = np.empty((len(a), len(starts) - 1))
    for k in range(len(a)):
        x, y = a[k], b[k if len(b) > 1 else 0]
        for i in range(len(starts) - 1):
            total = 0.0
            if apart:
                for j in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
                    v = np.float64(x[j]) - np.float64(y[j])
                    total += v * v
            else:
                for j in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
                    total += np.float64(x[j]) * np.float64(y[j])
            found[k, i] = total
    return found


def fires(address: int, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """[units] whether a contiguous tensor of that shape has anything but zeros at each index of an axis."""
    found = np.zeros(shape[axis], dtype=np.bool_)
    _fires(address, math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), found)
    return found


@_kept
def _fires(address, outer, inner, found):
    units = len(found)
    bits = numba.carray(_pointer(address), outer * units * inner, np.uint32)
    for unit in range(units):
        for i in range(outer):
            begin = np.uint64((i * units + unit) * inner)
            for j in range(begin, begin + np.uint64(inner)):
                if bits[j] & _SIZE:
                    found[unit] = True
                    break
            if found[unit]:
                break
