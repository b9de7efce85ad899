"""Weights and biases: histogram, mean, spread, kurtosis, L2, distance from the start.

## What is recorded
One row a step and parameter, as it was before the step: `mean`, `std`, `error`, `l2`, `kurtosis` (Fisher's, 0 for a
normal distribution), `distance` = ‖w − w₀‖/‖w₀‖ from the first recorded step, `nonfinite`, a 64-bin `histogram`;
`abs_max`, exact, every 20th recorded step; `trainable`.

## How it is measured
From up to 4,096 elements, the same ones at every step; a smaller tensor whole.

## What it costs
Per parameter about 10 µs to sample and 8 µs to reduce on one core. See reports/gauges.md.

## Source
Cockpit (Schneider, Dangel & Hennig 2021) for the distance; fastai-free definitions of NumPy and SciPy for the rest.
"""

import numpy as np

from diagnose.gauges import Block, Columns, Gauge, histogram_columns


class WeightStatistics(Gauge):
    """Statistics of the parameters."""

    table = "weights"
    reads = ("weights",)

    def rows(self, block: Block) -> Columns | None:
        found = block.parameters
        if found is None or found.weights is None or not len(found.weights):
            return None
        rows, s = found.weights, found.weights.summary
        size = np.array([found.sizes[n] for n in rows.names])
        whole = s.count == size
        largest = np.maximum(np.abs(s.min), np.abs(s.max))
        peak = rows.column(found.peaks)
        return {
            "step": rows.step,
            "parameter": rows.names,
            "trainable": np.array([found.trainable[n] for n in rows.names]),
            "size": size,
            "count": s.count.astype(np.int64),
            "mean": s.mean.astype(np.float32),
            "std": s.std.astype(np.float32),
            "error": np.where(whole, 0, s.error).astype(np.float32),
            "l2": s.l2(size).astype(np.float32),
            "kurtosis": s.kurtosis.astype(np.float32),
            "abs_max": np.where(whole & ~np.isnan(largest), largest, peak).astype(np.float32),
            "distance": found.distance.astype(np.float32),
            "nonfinite": s.nonfinite.astype(np.float32),
            **histogram_columns(s),
        }
