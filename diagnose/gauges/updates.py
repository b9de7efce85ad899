"""Updates: by how much the real step changed every parameter, ‖Δw‖/‖w‖.

## What is recorded
One row a step and parameter, of steps that were made: `ratio` = ‖Δw‖/‖w‖ (infinite if an all-zero tensor moved),
`unchanged` if no element that was read changed by a single bit. A step that was cancelled (overflow, accumulation) has
no row here and says so in the table `steps`.

## How it is measured
The same up to 4,096 elements before and after the optimizer's step: learning rate, momentum, decay, clipping and
whatever else are all in it. Weight decay alone changes a weight too.

## What it costs
Per parameter about 20 µs on one core. See reports/gauges.md.

## Source
Karpathy 2015, CS231n: about 1e-3 is usual; Cockpit (Schneider, Dangel & Hennig 2021).
"""

import numpy as np

from diagnose.gauges import Block, Columns, Gauge


class UpdateRatios(Gauge):
    """Relative change of every parameter in a step."""

    table = "updates"
    reads = ("weights", "updates")

    def rows(self, block: Block) -> Columns | None:
        found = block.parameters
        if found is None or found.weights is None or not found.made.any():
            return None
        rows, made = found.weights, found.made
        ratio = found.change[made]
        return {
            "step": rows.step[made],
            "parameter": [n for n, yes in zip(rows.names, made.tolist()) if yes],
            "ratio": ratio.astype(np.float32),
            "unchanged": ratio == 0,
        }
