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

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import groups, listed, made, parameters, rates, rows, steady
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


class _Step(NamedTuple):
    step: int
    moved: float  # ‖Δw‖ in units of the tensor's size
    ratio: float
    rate: float
    pull: float  # norm of its gradient, in the same units


class UpdateRatio(Alarm):
    """Relative changes that are far from usual, and stay so."""

    tables = ("updates",)

    def __init__(self):
        self._tensors: dict[str, _Tensor] = {}
        self._seen: dict[str, deque[_Step]] = {}
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
        table, stepped, rate = tables["updates"], set(made(moments)), rates(tables, learn)
        norms, pulls = rows(tables.get("weights"), "l2"), rows(tables.get("gradients"), "l2")
        for step, name, ratio in zip(table["step"], table["parameter"], table["ratio"]):
            known, step = self._tensors.get(name), int(step)
            if known is None or step not in stepped or not (used := _at(rate[step], known.group)) > 0:
                continue
            moved = float(ratio) * norms.get((step, name), np.nan) / known.size
            entry = _Step(step, moved, float(ratio), used, pulls.get((step, name), 0.0) / known.size)
            self._seen.setdefault(name, deque(maxlen=STEPS)).append(entry)
            self._highest[name] = max(self._highest.get(name, 0.0), used)
            self._most[name] = max(self._most.get(name, 0.0), float(ratio))
        full = {n: list(w) for n, w in self._seen.items() if len(w) == STEPS}
        yield from self._too_large(full)
        if (np.asarray(table["ratio"]) > 0).any():  # else nothing moves, which is another alarm
            yield from self._too_small(full)

    def _too_large(self, full: dict[str, list[_Step]]) -> Iterator[Raised]:
        found = {n: _median(m.moved for m in w) for n, w in full.items() if all(m.moved > LARGE for m in w)}
        if found and "large" not in self._told:
            self._told.add("large")
            worst = max(found, key=found.get)
            rest = f", and {listed(n for n in found if n != worst)} by more than theirs" if len(found) > 1 else ""
            yield self.raised(
                full[worst][-1].step,
                f"each of the last {STEPS} recorded steps moved {worst} by more than its size, {found[worst]:.3g} "
                f"times it in the median where 0.001 is usual{rest}; the rate is {full[worst][-1].rate:.3g}",
                worst,
            )

    def _too_small(self, full: dict[str, list[_Step]]) -> Iterator[Raised]:
        per_rate = {n: _median(max(m.moved / m.rate, m.pull) for m in w) for n, w in full.items()}
        small = [n for n, w in full.items() if self._below_resolution(n, w)]
        if not small or "small" in self._told or not all(v >= 0 for v in per_rate.values()):
            return  # NaN where the table `weights` was not recorded
        apart = [n for n in small if per_rate[n] < APART * max(per_rate.values())]
        if apart:
            worst, most = min(apart, key=per_rate.get), max(per_rate, key=per_rate.get)
            told = f"at equal rates {most} changes {_times(per_rate[most], per_rate[worst])}"
        elif len(small) == len(full) and max(per_rate.values()) > MOVES:
            worst, told = (
                small[0],
                f"the same is true of all {len(small)}: the rate, {full[small[0]][-1].rate:.3g}, is too small",
            )
        else:
            return
        self._told.add("small")
        ratio = _median(m.ratio for m in full[worst])
        yield self.raised(
            full[worst][-1].step,
            f"each of the last {STEPS} recorded steps changed {worst} by less than its format resolves, {ratio:.2g} of "
            f"its norm in the median against {self._tensors[worst].resolution:.2g}; {told}",
            worst if apart else "",
        )

    def _below_resolution(self, name: str, window: list[_Step]) -> bool:
        used = [m.rate for m in window]
        return (
            all(m.pull > 0 for m in window)
            and self._most[name] < self._tensors[name].resolution  # once it was more, the gradients have got small
            and steady(used)
            and used[-1] >= self._highest[name] / 2
        )


def _resolution(dtype: torch.dtype) -> float:
    eps = torch.finfo(dtype).eps
    return eps if eps < 1e-6 else eps / 1000  # usual steps are below that of 16 bits, and still move some elements


def _at(used: list[float], group: int) -> float:
    return used[group] if group < len(used) else 0.0


def _median(values: Any) -> float:
    return float(np.median(list(values)))


def _times(more: float, less: float) -> str:
    return f"{more / less:.1g} times more" if less > 0 else "and it does not at all"
