"""Units that never fire: zero for every item and place of several batches.

## What is recorded
One row a layer whose outputs are never negative and sometimes zero: `dead`, the share of its `units` that were exactly
zero throughout the last `batches` batches that were read.

## How it is measured
Every element of the output, every 16th recorded step, over a window of 8 such batches. A unit is a channel of maps
(b, c, h, w), else an index of the last axis. A share of zeros is no share of dead units: a sparse layer has many zeros
and no dead unit.

## What it costs
Every 16th recorded step a pass over the rectified outputs, in memory only as far as each unit's first non-zero value.
See reports/gauges.md.

## Source
Lu et al. 2020, "Dying ReLU and initialization"; fastai's near_zero counts negative numbers too.
"""

from collections import deque

import numpy as np
from torch import Tensor

from diagnose.gauges import Block, Call, Columns, Gauge, to_host
from diagnose.stats import fires, unit_axis

WINDOW = 8


class DeadUnits(Gauge):
    """Share of units without a single non-zero output in the window."""

    table = "units"
    every = 16
    reads = ("calls",)

    def __init__(self):
        self._fired: dict[Call, deque] = {}
        self._rectified: set[Call] | None = None

    def after_pred(self, moment, learn) -> None:
        kept = {}
        for call, output in moment.calls:
            if (self._rectified is None or call in self._rectified) and output.is_floating_point() and output.ndim > 1:
                axis = unit_axis(output)
                if output.numel():
                    kept[call] = fires(output, axis)
        moment.kept[self.id] = kept

    def rows(self, block: Block) -> Columns | None:
        self._learn_which(block)
        steps, calls, shares, units, batches = [], [], [], [], []
        for place, kept in block.kept(self.id):
            mine = {c: v for c, v in kept.items() if c in (self._rectified or ())}
            there = {c: v for c, v in mine.items() if isinstance(v, Tensor)}
            mine |= zip(there, to_host(list(there.values())))
            for call, fired in mine.items():
                window = self._fired.setdefault(call, deque(maxlen=WINDOW))
                if window and len(window[0]) != len(fired):
                    window.clear()
                window.append(fired.astype(bool))
                steps.append(block.moments[place].step)
                calls.append(call)
                shares.append(1 - np.any(window, axis=0).mean())
                units.append(len(fired))
                batches.append(len(window))
        if not steps:
            return None
        return {
            "step": np.array(steps, dtype=np.int64),
            "layer": [c.layer for c in calls],
            "kind": [c.kind for c in calls],
            "call": np.array([c.call for c in calls], dtype=np.uint16),
            "units": np.array(units, dtype=np.int32),
            "dead": np.array(shares, dtype=np.float32),
            "batches": np.array(batches, dtype=np.int32),
        }

    def _learn_which(self, block: Block) -> None:
        if block.activations is None or not len(block.activations.rows):
            return
        s = block.activations.rows.summary
        found = {n for n, low, zero in zip(block.activations.rows.names, s.negatives, s.zeros) if low == 0 and zero > 0}
        never = {n for n, low in zip(block.activations.rows.names, s.negatives) if low > 0}
        self._rectified = ((self._rectified or set()) | found) - never
