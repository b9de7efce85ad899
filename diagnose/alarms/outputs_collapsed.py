"""The model gives the same answer for every item.

## What it watches
`output_constant` of the table `steps`: the share of a batch's items whose output is the batch's mean output.

## Why it matters
Nothing of the input reaches the output, so no gradient tells inputs apart: training goes on for the bias only.

## How it is judged
All items alike to 1e-6 of the output's size, the resolution of float32, in each of the last 20 recorded steps that were
made at a rate above 0; then the outputs of the step at hand are compared whole. A net that merely says nearly the same
is far from that: one step at rate 3e-3 after a zero start makes a spread of 1e-2.

## What to do
Look for what comes before: dead units, saturated activations, inputs that are constant, features multiplied by zero.
`diagnose explain output-collapse` and `diagnose run` find which.

## What it looks like but is not
A last layer that starts at zero gives one answer until the first step at a rate above 0; a warm-up from 0 is no such
step. Batches of one item have nothing to compare.

## Source
The notes' debug item: "the net answers with a constant"; Lu et al. 2020, "Dying ReLU and initialization".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import made, rates
from diagnose.gauges import Columns, Moment
from diagnose.stats import floats

STEPS = 20
ALIKE = 1e-6  # of the outputs' size, as in the gauge


class OutputsCollapsed(Alarm):
    """Outputs that are alike for all items."""

    tables = ("steps",)
    once = True

    def __init__(self):
        self._count, self._since = 0, None

    def start(self, learn: Any) -> None:
        self.__init__()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["steps"]
        if "output_constant" not in table:
            return
        stepped, rate = set(made(moments)), rates(tables, learn)
        for number, share in zip(table["step"].tolist(), table["output_constant"].tolist()):
            if number in stepped and max(rate[number], default=0) > 0:
                self._count = self._count + 1 if share == 1 else 0
                if self._count <= STEPS:
                    self._since = number if self._count == STEPS else None
        if self._since is None or not alike(learn.pred):
            return
        yield self.raised(
            self._since,
            f"the outputs are the same for every item, to {ALIKE:g} of their size, in the last {self._count} recorded "
            f"steps that were made; the limit is {STEPS} in a row",
        )


def alike(outputs: Any) -> bool:
    """Whether every floating-point output is the same for all items of a batch of two or more."""
    parts = [t.detach().as_subclass(torch.Tensor) for t in floats(outputs)]
    parts = [t for t in parts if len(t) > 1 and t.numel()]
    return bool(parts) and all(float((t - t[:1]).abs().max()) <= 2 * ALIKE * float(t.abs().max()) for t in parts)
