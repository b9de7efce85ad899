"""What every module puts out: histogram, mean, spread, zeros, negatives, non-finite, saturation.

## What is recorded
One row a step, call of a module and output: `mean`, `std`, `error` (standard error of the mean), shares of `zeros`,
`negatives`, `nonfinite` and `saturated` (within 0.01 of the limits of a sigmoid, tanh, hard sigmoid or hard tanh), and
a 64-bin `histogram` whose bins fit any scale. `min` and `max` only where the output was read whole.

## How it is measured
From up to 4,096 elements of the output, other ones at every step; `count` of `size` tells how many: 64 runs of 64
neighbours read where the output lies in the processor's memory, or 256 of 16 copied from it. A module called several
times in a step (the shared encoder of a siamese net) has a row for each call. Outside the
processor's memory an output that a later module overwrites in place is read every eighth time only, since it must be
copied at once.

## What it costs
Per output about 10 µs to sample and 8 µs to reduce on one core. See reports/gauges.md.

## Source
Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; fastai's "colorful
dimension", with negative numbers and the whole range.
"""

import numpy as np

from diagnose.gauges import Block, Columns, Gauge, histogram_columns


class ActivationStatistics(Gauge):
    """Statistics of the outputs of all modules."""

    table = "activations"
    reads = ("activations",)

    def rows(self, block: Block) -> Columns | None:
        found = block.activations
        if found is None or not len(found.rows):
            return None
        names, s = found.rows.names, found.rows.summary
        size = np.array([found.sizes[n] for n in names])
        whole = s.count == size
        return {
            "step": found.rows.step,
            "layer": [n.layer for n in names],
            "kind": [n.kind for n in names],
            "call": np.array([n.call for n in names], dtype=np.uint16),
            "part": np.array([n.part for n in names], dtype=np.uint16),
            "size": size,
            "count": s.count.astype(np.int64),
            "mean": s.mean.astype(np.float32),
            "std": s.std.astype(np.float32),
            "error": np.where(whole, 0, s.error).astype(np.float32),
            "min": np.where(whole, s.min, np.nan).astype(np.float32),
            "max": np.where(whole, s.max, np.nan).astype(np.float32),
            "zeros": s.zeros.astype(np.float32),
            "negatives": s.negatives.astype(np.float32),
            "nonfinite": s.nonfinite.astype(np.float32),
            "saturated": found.saturated.astype(np.float32),
            **histogram_columns(s),
        }
