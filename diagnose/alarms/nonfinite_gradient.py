"""A gradient is NaN or infinite; names the parameter where the backward pass went wrong.

## What it watches
The table `gradients`: after mixed precision has unscaled them, before clipping.

## Why it matters
Clipping by norm spreads one such number to every parameter, and the step after it makes the weights NaN for good. The
loss may still be finite: the square root of 0, the norm of a zero vector and 0/0 under a mask go wrong backwards only.

## How it is judged
A single element that is not finite is enough, in a step that the optimizer made. Large tensors are sampled, and read
whole every 20th recorded step. The backward pass runs from the last layer to the first, so the last parameter in the
model's order is nearest to where it began; it is named, with those before it. Raised once a fit.

## What to do
Look at what lies between that parameter and the loss: `sqrt(x + eps)`, `F.normalize`, `clamp` before `log`.
`torch.autograd.set_detect_anomaly(True)` names the operation.

## What it looks like but is not
Under float16 the loss scale is searched by overflowing: such a step is skipped, it has no row and raises nothing. A
callback that cancels the step is not judged either.

## Source
pytorch#68425 (`torch.where` passes on the NaN of the branch not taken); Micikevicius et al. 2018, "Mixed precision
training" (skipped steps).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import listed, made
from diagnose.gauges import Columns, Moment


class NonfiniteGradient(Alarm):
    """Non-finite gradient of a step that was made."""

    tables = ("gradients",)
    once = True

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["gradients"]
        share, steps = np.asarray(table["nonfinite"]), np.asarray(table["step"])
        bad = ((share > 0) | _exactly(table)) & ~np.asarray(table["missing"]) & np.isin(steps, made(moments))
        if not bad.any():
            return
        step = steps[bad].min()
        found = np.flatnonzero(bad & (steps == step))
        names = [table["parameter"][i] for i in found]
        rest = f", and so is that of {listed(reversed(names[:-1]))}" if names[1:] else ""
        yield self.raised(
            step,
            f"the gradient of {names[-1]} is not finite in {max(share[found[-1]], 0):.3g} of its elements that were "
            f"read, where none may be{rest}; the optimizer has applied it",
            names[-1],
        )


def _exactly(table: Columns) -> np.ndarray:
    "[rows] exact norms that are no numbers, at steps where they were taken: where another parameter's is one."
    norms, steps = np.asarray(table["l2_exact"]), np.asarray(table["step"])
    return np.isinf(norms) | (np.isnan(norms) & np.isin(steps, steps[~np.isnan(norms)]))
