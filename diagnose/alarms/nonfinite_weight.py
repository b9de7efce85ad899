"""A weight is NaN or infinite; names the parameter.

## What it watches
The table `weights`: every parameter before each recorded step, frozen ones too.

## Why it matters
No later step brings it back: NaN plus an update is NaN. What passes through it is lost, and soon every other weight.

## How it is judged
A single element that is not finite is enough. Large tensors are sampled, and read whole every 20th recorded step. The
first such parameter in the model's order is named. Raised once a fit, since the others follow at once.

## What to do
Go back to a checkpoint from before the step that is named. Lower the rate, clip the gradient, or skip steps whose
gradient is not finite; `diagnose run` tells which of them cures it.

## What it looks like but is not
Masks and attention biases of −∞ are buffers, not parameters, and are not looked at.

## Source
fastai#3048; OPT-175B logbook (Zhang et al. 2022): restarts after a diverged step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import listed
from diagnose.gauges import Columns, Moment


class NonfiniteWeight(Alarm):
    """Non-finite parameter."""

    tables = ("weights",)
    once = True

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["weights"]
        share, steps, peaks = (np.asarray(table[c]) for c in ("nonfinite", "step", "abs_max"))
        sampled = np.asarray(table["count"]) < np.asarray(table["size"])
        read_whole = np.isin(steps, steps[sampled & ~np.isnan(peaks)])
        bad = (share > 0) | (sampled & (np.isinf(peaks) | (np.isnan(peaks) & read_whole)))
        if not bad.any():
            return
        step = steps[bad].min()
        found = np.flatnonzero(bad & (steps == step))
        names = [table["parameter"][i] for i in found]
        rest = f", and so is {listed(names[1:])}" if names[1:] else ""
        told = f"{names[0]} is not finite in {share[found[0]]:.3g} of its elements that were read, where none may be"
        yield self.raised(step, told + rest, names[0])
