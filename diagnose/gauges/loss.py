"""The loss of every recorded step, and whether the step was made.

## What is recorded
`loss` as the loss function gave it (not scaled for mixed precision or accumulation, not smoothed), averaged if it is
not a number; `outcome`: "" for a step that was made, "cancelled" for one that an overflow or a callback cancelled,
"accumulating" for one that gradient accumulation put off; `fit` and `epoch`.

## How it is measured
In `after_loss`; the number is moved to the host together with those of the steps around it.

## What it costs
Nothing that can be measured.

## Source
fastai's Recorder keeps the smoothed loss of the last fit only, and forgets it at the next `validate` (fastai#4132).
"""

import numpy as np
from torch import Tensor

from diagnose.gauges import Block, Columns, Gauge, to_host


class Loss(Gauge):
    """Loss and outcome of a step."""

    def rows(self, block: Block) -> Columns:
        have = {k: m.loss for k, m in enumerate(block.moments) if m.loss is not None}
        there = {k: loss for k, loss in have.items() if isinstance(loss, Tensor)}
        values = to_host([loss if loss.ndim == 0 else loss.float().mean() for loss in there.values()])
        have |= {k: float(v) for k, v in zip(there, values)}
        return {
            "loss": block.column(have),
            "outcome": [m.outcome for m in block.moments],
            "fit": np.array([m.fit for m in block.moments], dtype=np.int32),
            "epoch": np.array([m.epoch for m in block.moments], dtype=np.int32),
        }
