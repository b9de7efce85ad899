"""The steps are orders of magnitude too large or too small for the weights; names the worst of them.

## What it watches
The table `updates`, ‖Δw‖/‖w‖ of every matrix and kernel (biases, gains and scales may start at zero), with `weights`,
`gradients` and the rates of `steps`.

## Why it matters
About 1e-3 is usual. A step as large as the weights forgets what was learned before it; one below the resolution of the
number format is rounded away.

## How it is judged
Over 20 recorded steps in a row that were made at a rate above 0. Too large: each moved the tensor by more than its
size, which is the larger of its norm when the fit began and that of a usual initialisation, 1/√fan_in an element; Adam
at the high rate of 1e-2 moves a layer of 1,024 inputs by about 0.3 of that. Too small: each changed it by less than the
format resolves (1.2e-7 for float32; a thousandth of the resolution of 16 bits, below which less than one element in
10,000 changes), as did all before in the fit, although the gradient is not zero and the rate does not rise and is at
least half of its highest; and either another tensor, at equal rates, was changed 1e5 times more (the gradient
vanishes), or all stand still although a step at rate 1 would change one of them by over 7e-3 (the rate is too small:
six kinds of new nets had 0.02 to 2, nets that have converged 4e-4 to 2e-3). Raised once a fit each.

## What to do
Too large: divide the rate by 10 until it is silent. Too small everywhere: multiply it. In the first layers only: norm
layers, residual connections or another initialisation; `diagnose run` proves which.

## What it looks like but is not
A warm-up from 0; a rate of 1e-5 on a trained net, which changes it by 1e-5 and more; weights that start at zero, whose
first ratios are infinite; frozen parts and unused heads, without a gradient; a net that has converged, whose gradients
are small as well. Weight decay changes a tensor too and hides a gradient that vanishes.

## Source
Karpathy 2015, CS231n, "Ratio of weights:updates"; He et al. 2015 for the usual size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import grid, groups, listed, made, parameters, rates, steady
from diagnose.gauges import Columns, Moment

STEPS = 20
LARGE = 1.0  # of the tensor's size
APART = 1e-5  # of the largest change at equal rates
MOVES = 7e-3  # the largest relative change by a step at rate 1


class _Tensor(NamedTuple):
    "What is known of a tensor when the fit begins: its size, the resolution of its format, its parameter group."

    size: float
    resolution: float
    group: int


class _Windows(NamedTuple):
    "The last 20 steps of tensors, [tensors, 20] each."

    step: np.ndarray
    moved: np.ndarray  # ‖Δw‖ in units of the tensor's size
    ratio: np.ndarray
    rate: np.ndarray
    pull: np.ndarray  # norm of its gradient, in the same units


class UpdateRatio(Alarm):
    """Relative changes that are far from usual, and stay so."""

    tables = ("updates",)

    def __init__(self):
        self._tensors: dict[str, _Tensor] = {}
        self._seen: dict[str, np.ndarray] = {}  # [up to 20, 5] by tensor, columns as in _Windows
        self._highest: dict[str, float] = {}
        self._most: dict[str, float] = {}
        self._told: set[str] = set()

    @torch.no_grad()
    def start(self, learn: Any) -> None:
        self.__init__()
        group = groups(learn)
        for name, p in parameters(learn.model).items():
            if p.ndim > 1 and p.is_floating_point() and id(p) in group:
                size = max(float(p.detach().float().norm()), len(p) ** 0.5)  # that of elements spread by 1/√fan_in
                self._tensors[name] = _Tensor(size, _resolution(p.dtype), group[id(p)])

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        self._remember(tables, moments, learn)
        full = [n for n, w in self._seen.items() if len(w) == STEPS]
        if not full:
            return
        windows = _Windows(*np.stack([self._seen[n] for n in full]).transpose(2, 0, 1))
        yield from self._too_large(full, windows)
        if (np.asarray(tables["updates"]["ratio"]) > 0).any():  # else nothing moves, which is another alarm
            yield from self._too_small(full, windows)

    def _remember(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> None:
        "The last steps of every tensor that was changed at a rate above 0."
        table, rate = tables["updates"], rates(tables, learn)
        names = {n: i for i, n in enumerate(self._tensors)}
        steps = np.array(made(moments), dtype=np.int64)
        if not names or not len(steps):
            return
        known = self._tensors.values()
        used = np.array([[_at(rate[s], t.group) for t in known] for s in steps.tolist()])
        size, ratio = np.array([t.size for t in known]), grid(table, "ratio", steps, names)
        have = ~np.isnan(grid(table, "step", steps, names)) & (used > 0)
        with np.errstate(all="ignore"):
            moved = ratio * grid(tables.get("weights"), "l2", steps, names) / size
            pull = grid(tables.get("gradients"), "l2", steps, names, 0.0) / size
        number = np.broadcast_to(steps[:, None], used.shape)
        entries = np.stack([number, moved, ratio, used, pull], 2)
        for name, i in names.items():
            mine = have[:, i]
            if mine.any():
                new = entries[mine, i]
                self._seen[name] = np.concatenate([self._seen.get(name, new[:0]), new[-STEPS:]])[-STEPS:]
                self._highest[name] = max(self._highest.get(name, 0.0), float(used[mine, i].max()))
                self._most[name] = max(self._most.get(name, 0.0), float(np.fmax.reduce(ratio[mine, i])))

    def _too_large(self, full: list[str], windows: _Windows) -> Iterator[Raised]:
        large = (windows.moved > LARGE).all(1)
        found = {full[i]: float(np.median(windows.moved[i])) for i in np.flatnonzero(large)}
        if found and "large" not in self._told:
            self._told.add("large")
            worst = max(found, key=found.get)
            step, *_, rate, _ = self._seen[worst][-1]
            rest = f", and {listed(n for n in found if n != worst)} by more than theirs" if len(found) > 1 else ""
            yield self.raised(
                step,
                f"each of the last {STEPS} recorded steps moved {worst} by more than its size, {found[worst]:.3g} "
                f"times it in the median where 0.001 is usual{rest}; the rate is {rate:.3g}",
                worst,
            )

    def _too_small(self, full: list[str], windows: _Windows) -> Iterator[Raised]:
        small = self._below_resolution(full, windows)
        if not small or "small" in self._told:
            return
        one = windows.moved / windows.rate
        per_rate = dict(zip(full, np.median(np.where(windows.pull > one, windows.pull, one), 1).tolist()))
        if not all(v >= 0 for v in per_rate.values()):
            return  # NaN where the table `weights` was not recorded
        apart = [n for n in small if per_rate[n] < APART * max(per_rate.values())]
        if apart:
            worst, most = min(apart, key=per_rate.get), max(per_rate, key=per_rate.get)
            told = f"at equal rates {most} changes {_times(per_rate[most], per_rate[worst])}"
        elif len(small) == len(full) and max(per_rate.values()) > MOVES:
            worst, told = (
                small[0],
                f"the same is true of all {len(small)}: the rate, {self._seen[small[0]][-1, 3]:.3g}, is too small",
            )
        else:
            return
        self._told.add("small")
        ratio = float(np.median(self._seen[worst][:, 2]))
        yield self.raised(
            self._seen[worst][-1, 0],
            f"each of the last {STEPS} recorded steps changed {worst} by less than its format resolves, {ratio:.2g} of "
            f"its norm in the median against {self._tensors[worst].resolution:.2g}; {told}",
            worst if apart else "",
        )

    def _below_resolution(self, full: list[str], windows: _Windows) -> list[str]:
        return [
            name
            for name, pulled, used in zip(full, (windows.pull > 0).all(1).tolist(), windows.rate)
            if pulled
            and self._most[name] < self._tensors[name].resolution  # once it was more, the gradients have got small
            and steady(used)
            and used[-1] >= self._highest[name] / 2
        ]


def _resolution(dtype: torch.dtype) -> float:
    eps = torch.finfo(dtype).eps
    return eps if eps < 1e-6 else eps / 1000  # usual steps are below that of 16 bits, and still move some elements


def _at(used: list[float], group: int) -> float:
    return used[group] if group < len(used) else 0.0


def _times(more: float, less: float) -> str:
    return f"{more / less:.1g} times more" if less > 0 else "and it does not at all"
