"""The statistics of `stats`, compiled for the processor: one pass over float32 numbers where they lie in memory.

A step of a small net takes tens of milliseconds and leaves nothing of PyTorch's code in the caches, so that every kind
of call costs 25 to 40 µs the first time in a step, whatever it computes. Here all tensors take one call; and it passes
addresses: numba looks at the kind of every argument, which takes 60 to 100 µs between two layers, and C does not.

Tensors come as what `Rows` says of them: an address, and runs of neighbours. Whoever calls keeps them alive.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
from collections.abc import Callable

import numba
import numpy as np
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from diagnose.packed import CHUNK, FIELDS, LONG_CHUNK, NEAR, NOTHING, WIDTH, WINDOW, Pages, start

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


class _Entry:
    "A compiled function of integers, numbers and addresses alike: compiled at the first call, which `enabled` makes."

    def __init__(self, function):
        self._function = function

    def __call__(self, *numbers: int) -> None:
        self.compiled(*numbers)

    @functools.cached_property
    def compiled(self) -> Callable[..., None]:
        "What C calls; it keeps what numba has compiled alive."
        signature = types.void(*[types.int64] * self._function.__code__.co_argcount)
        try:
            found = cfunc(signature, cache=True)(self._function)
        except RuntimeError:  # no folder to keep it in
            found = cfunc(signature)(self._function)
        self._found = found
        return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(signature.args))(found.address)


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
        unit: 16 or 64, the same for all. total: elements read. longest: of the longest that has gaps, 0 if none has.
        table: address of [4, rows], the first four.
    """

    def __init__(self, runs: np.ndarray, gaps: np.ndarray, tails: np.ndarray, rooms: np.ndarray, unit: int = CHUNK):
        self._table = np.ascontiguousarray(np.stack([runs, gaps, tails, rooms]), dtype=np.int64)
        self.runs, self.gaps, self.tails, self.rooms = self._table
        self.table, self.unit = self._table.ctypes.data, unit
        self.lengths = self.runs * unit + self.tails
        self.total = int(self.lengths.sum())
        self.longest = int((self.lengths * (self.gaps > 0)).max(initial=0))

    def __len__(self) -> int:
        return len(self.runs)

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
    (packed, at), (sums, sums_at), square = (
        Pages((1, WIDTH)).next(),
        Pages((1, 3)).next(),
        read.astype(np.float64) ** 2,
    )
    reader()(int(address[0]), apart_.table, apart_.unit, apart_.longest, 0, at)
    _same(packed[0, 1:3], [read.mean(dtype=np.float64), read.std(dtype=np.float64)])
    statistics_to(address.ctypes.data, apart_, 0, at, np.zeros(1, dtype=np.int64).ctypes.data)
    _same(packed[0, 1:3], [read.mean(dtype=np.float64), read.std(dtype=np.float64)])
    line, starts, lines = np.stack([read]), np.array([0, 128]), Lines(128 * one)
    _same(distances(line, line + 1, starts), [[128]])
    _same(products(line, line, starts), [[square.sum()]])
    look(address.ctypes.data, apart_, True, lines, at, sums_at)
    _same(packed[0, 1:3], [read.mean(dtype=np.float64), read.std(dtype=np.float64)])
    _same(sums, [[square.sum(), 0, 0]])
    moved(address.ctypes.data, apart_, lines, sums_at)
    _same(sums[0, 0], 0)
    kept(address.ctypes.data, apart_, lines, sums_at)
    _same(sums[0, 0], square.sum())
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
    packed = np.empty((len(addresses), WIDTH))
    about = rows.table, len(rows), rows.unit, rows.longest, shift
    _statistics_to(addresses.ctypes.data, *about, packed.ctypes.data, 0, kurtosis, extremes)
    return packed


def statistics_to(addresses: int, rows: Rows, shift: int, packed: int, where: int) -> None:
    """The same with extremes, of addresses that stand at an address, to those rows of a matrix whose numbers, ascending
    int64, stand at `where`."""
    about = rows.table, len(rows), rows.unit, rows.longest, shift
    _statistics_to(addresses, *about, packed, where, False, True)


_start = _kept(start)


@_kept
def _statistics(addresses, table, unit, longest, shift, packed, places, kurtosis, extremes):
    counts = np.empty((_TABLES, 2 * _EXPONENTS), np.int32)
    buffer = np.empty(longest, np.float32)
    for i in range(len(addresses)):
        _row(
            *(addresses[i], table[0, i], table[1, i], table[2, i], table[3, i], unit, shift),
            *(packed[places[i]], kurtosis, extremes, counts, buffer),
        )


@_Entry
def _statistics_to(addresses, table, rows, unit, longest, shift, packed, where, kurtosis, extremes):
    places = numba.carray(_pointer(where), rows, np.int64) if where else np.arange(rows)
    high = places[rows - 1] + 1 if rows else 0
    _statistics(
        *(numba.carray(_pointer(addresses), rows, np.int64), numba.carray(_pointer(table), (4, rows), np.int64)),
        *(unit, longest, shift, numba.carray(_pointer(packed), (high, WIDTH), np.float64), places),
        *(kurtosis != 0, extremes != 0),
    )


def reader() -> Callable[[int, int, int, int, int, int], None]:
    """A C function that does the same with extremes for one tensor: from its address, `table`, `unit` and `longest` of
    its `Rows`, and the shift, to an address."""
    return _statistics_of.compiled


@_Entry
def _statistics_of(address, table, unit, longest, shift, packed):
    addresses, first = np.empty(1, np.int64), np.zeros(1, np.int64)
    addresses[0] = address
    rows, to = numba.carray(_pointer(table), (4, 1), np.int64), numba.carray(_pointer(packed), (1, WIDTH), np.float64)
    _statistics(addresses, rows, unit, longest, shift, to, first, False, True)


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
    total, others, more, most = counts[0], counts[1], counts[2], counts[3]
    for b in range(np.uint64(2 * _EXPONENTS)):
        total[b] += others[b] + more[b] + most[b]
    nonfinite, small = 0, 0
    for h in range(_INFINITE, _EXPONENTS):
        nonfinite += total[h] + total[_EXPONENTS + h]
    for h in range(_NORMAL):
        small += total[h] + total[_EXPONENTS + h]
    top = _INFINITE - 1
    while top >= _NORMAL and not total[top] and not total[_EXPONENTS + top]:
        top -= 1
    out[10] = top - _BIAS if top >= _NORMAL else NOTHING
    histogram = out[_FIELDS:]
    histogram[:] = 0
    least = max(top - WINDOW, _NORMAL - 1)  # this one and what is smaller share a bin
    below, above = 0, 0
    for h in range(np.uint64(_NORMAL), np.uint64(least + 1)):
        below += total[h]
        above += total[np.uint64(_EXPONENTS) + h]
    histogram[WINDOW], histogram[WINDOW + 2] = below, above
    for h in range(least + 1, top + 1):
        histogram[top - h] += total[h]
        histogram[2 * WINDOW + 2 - (top - h)] += total[_EXPONENTS + h]
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


@_kept
def _gather_all(addresses, table, unit, line, starts):
    "Copy rows to `line`, each to its place in `starts`."
    for i in range(len(addresses)):
        to = line[starts[i] :]
        if table[1, i]:
            _touch(addresses[i], table[0, i], table[1, i], table[2, i], unit, to)
        _gather(addresses[i], table[0, i], table[1, i], table[2, i], unit, to)


def look(addresses: int, rows: Rows, kurtosis: bool, lines: Lines, packed: int, sums: int) -> None:
    """Copy samples to `lines.now`, and read them there while they are in the cache.

    Args:
        addresses: where those of the tensors stand, as `rows` has them.
        packed: address of [rows, fields] for the statistics of the samples, with extremes of what is read whole.
        sums: address of [rows, 3]: of squares of what is read; of its products with `lines.before`; and of the squares
            of its differences from `lines.first`.
    """
    _look(
        *(addresses, rows.table, len(rows), rows.unit, lines.inside.table, lines.addresses, lines.starts, lines.total),
        *(kurtosis, packed, lines.now, lines.before, lines.first, sums),
    )


@_Entry
def _look(
    addresses, table, rows, unit, inside, there, starts, total, kurtosis, packed, now, before, first, sums
):  # fmt: skip
    begins = numba.carray(_pointer(starts), rows + 1, np.int64)
    a, b = numba.carray(_pointer(now), total, np.float32), numba.carray(_pointer(before), total, np.float32)
    c, found = numba.carray(_pointer(first), total, np.float32), numba.carray(_pointer(sums), (rows, 3), np.float64)
    _gather_all(
        *(numba.carray(_pointer(addresses), rows, np.int64), numba.carray(_pointer(table), (4, rows), np.int64)),
        *(unit, a, begins),
    )
    copies, of = numba.carray(_pointer(there), rows, np.int64), numba.carray(_pointer(inside), (4, rows), np.int64)
    gaps, to = (
        numba.carray(_pointer(table), (4, rows), np.int64)[1],
        numba.carray(_pointer(packed), (rows, WIDTH), np.float64),
    )
    counts = np.empty((_TABLES, 2 * _EXPONENTS), np.int32)
    for i in range(rows):
        _row(copies[i], of[0, i], 0, of[2, i], 0, CHUNK, 0, to[i], kurtosis != 0, gaps[i] == 0, counts, a)
    _compare(a, b, c, begins, found)


@_kept
def _compare(now, before, first, starts, sums):
    for i in range(len(sums)):
        own, common, apart = 0.0, 0.0, 0.0
        for j in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
            v = np.float64(now[j])
            away = v - np.float64(first[j])
            own += v * v
            common += v * np.float64(before[j])
            apart += away * away
        sums[i, 0], sums[i, 1], sums[i, 2] = own, common, apart


def kept(addresses: int, rows: Rows, lines: Lines, found: int) -> None:
    """Copy the samples of tensors to `lines.before`; [rows] their sums of squares to an address."""
    _fetch(
        *(addresses, rows.table, len(rows), rows.unit, lines.before, lines.starts, lines.total), lines.before, 0, found
    )


def moved(addresses: int, rows: Rows, lines: Lines, found: int) -> None:
    """[rows] sums of squares of the differences of tensors from `lines.now`, to an address; copies them to
    `lines.before`."""
    _fetch(*(addresses, rows.table, len(rows), rows.unit, lines.before, lines.starts, lines.total), lines.now, 1, found)


@_Entry
def _fetch(addresses, table, rows, unit, line, starts, total, other, apart, found):
    begins, to = (
        numba.carray(_pointer(starts), rows + 1, np.int64),
        numba.carray(_pointer(line), (1, total), np.float32),
    )
    _gather_all(
        *(numba.carray(_pointer(addresses), rows, np.int64), numba.carray(_pointer(table), (4, rows), np.int64)),
        *(unit, to[0], begins),
    )
    with_ = numba.carray(_pointer(other), (1, total), np.float32)
    _in_pairs(with_, to, begins, apart != 0, numba.carray(_pointer(found), (1, rows), np.float64))


class Lines:
    """Memory for the samples of tensors, one behind the other: of this step, of the one before, and of the first.

    Attributes:
        now, before, first: addresses of [total] float32; `first` is of no meaning until `begin`.
        starts: address of [rows + 1] int64, where each begins. addresses: that of [rows], of the rows of `now`.
        inside: `Rows.whole` of as many elements each.
    """

    def __init__(self, lengths: np.ndarray):
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.inside, self.total = Rows.whole(lengths), int(starts[-1])
        self._lines = [np.zeros(self.total, dtype=np.float32) for _ in range(2)]  # now, before
        at = [line.ctypes.data for line in self._lines]
        self._rows = [a + 4 * starts[:-1] for a in at]
        self._starts, self._first = starts, None
        self.starts, self.now, self.before, self.first = starts.ctypes.data, at[0], at[1], at[0]
        self.addresses, self._other = (rows.ctypes.data for rows in self._rows)

    def begin(self) -> None:
        """What was read is what is compared with as the first."""
        self._first = self._lines[0].copy()
        self.first = self._first.ctypes.data

    def swap(self) -> None:
        """What is read becomes what was read before."""
        self._lines.reverse()
        self.now, self.before = self.before, self.now
        self.addresses, self._other = self._other, self.addresses


def distances(a: np.ndarray, b: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[steps, rows] sums of squares of a − b by row; a [steps, width], b the same or one step for all."""
    found = np.empty((len(a), len(starts) - 1))
    _in_pairs(a, b, starts, True, found)
    return found


def products(a: np.ndarray, b: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[steps, rows] dot products of the rows of a and b, likewise."""
    found = np.empty((len(a), len(starts) - 1))
    _in_pairs(a, b, starts, False, found)
    return found


@_kept
def _in_pairs(a, b, starts, apart, found):
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


def fires(address: int, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """[units] whether a contiguous tensor of that shape has anything but zeros at each index of an axis."""
    found = np.zeros(shape[axis], dtype=np.bool_)
    _fires(address, math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), found.ctypes.data)
    return found


@_Entry
def _fires(address, outer, units, inner, to):
    bits = numba.carray(_pointer(address), outer * units * inner, np.uint32)
    found = numba.carray(_pointer(to), units, np.bool_)
    for unit in range(units):
        for i in range(outer):
            begin = np.uint64((i * units + unit) * inner)
            for j in range(begin, begin + np.uint64(inner)):
                if bits[j] & _SIZE:
                    found[unit] = True
                    break
            if found[unit]:
                break
