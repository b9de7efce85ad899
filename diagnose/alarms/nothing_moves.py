"""Steps are made and no trainable parameter changes a bit.

## What it watches
The table `updates`, with the gradients' zeros and the rates of `steps`.

## Why it matters
The optimizer holds other parameters than the model's, every gradient is exactly zero, or the steps are rounded away in
a 16-bit format: hours of training leave the model that began.

## How it is judged
In 20 recorded steps in a row that were made at a rate above 0, no element read of any trainable parameter changed by a
single bit. A tensor of over 4,096 elements is sampled, and counts only if most of its gradient is not zero, or all of
it is (by the exact norm, every 20th recorded step): of a sparse one the sample may miss what moved. A rate that rises
over the 20 steps counts from 1e-4 on.

## What to do
Make the optimizer after the model's last change: `learn.opt = None` before `fit`, or `learn.create_opt()`. Look for a
`detach` or `no_grad` on the way to the loss; keep weights in float32 and use `to_fp16` or `to_bf16`.

## What it looks like but is not
A warm-up whose first steps are too small to be seen; accumulation and skipped steps, which are not made; embeddings
whose touched rows are not among the sampled ones; a body that is frozen while a head learns.

## Source
tensorflow#58138 (the loss does not move in bfloat16); Zamirai et al. 2021, "Revisiting bfloat16 training"; PyTorch's
documentation of `optim`: "construct the optimizer after moving the model".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import made, parameters, rates, rows, steady
from diagnose.gauges import Columns, Moment
from diagnose.sampling import SAMPLE

STEPS = 20
SEEN = 1e-4  # a rate from which on a step is expected to be seen even if it rises
MOST = 0.5  # zeros of a gradient that is not sparse


class NothingMoves(Alarm):
    """Made steps without any change."""

    tables = ("updates",)
    once = True

    def __init__(self):
        self._used, self._decided = deque(maxlen=STEPS), {}

    def start(self, learn: Any) -> None:
        self.__init__()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        trainable = {n: p.numel() for n, p in parameters(learn.model).items() if p.requires_grad}
        used, table = rates(tables, learn), tables["updates"]
        counted = [step for step in made(moments) if max(used[step], default=0.0) > 0]
        steps, names = np.asarray(table["step"]), table["parameter"]
        mine = np.isin(steps, counted) & np.fromiter(map(trainable.__contains__, names), bool, len(names))
        if (moved := mine & (np.asarray(table["ratio"]) != 0)).any():
            self._used.clear()
            self._decided.clear()
            mine &= steps > steps[moved].max()
        if not mine.any():
            return
        gradients = tables.get("gradients")
        zeros, exact = rows(gradients, "zeros"), rows(gradients, "l2_exact")
        for step in np.unique(steps[mine]).tolist():
            self._used.append(max(used[step]))
            for i in np.flatnonzero(mine & (steps == step)):
                name = names[i]
                known = trainable[name] <= SAMPLE or zeros.get((step, name), 1.0) < MOST or exact.get((step, name)) == 0
                self._decided[name] = known or self._decided.get(name, False)
        window = list(self._used)
        if len(window) < STEPS or not (steady(window) or window[0] >= SEEN) or not all(self._decided.values()):
            return
        pulled = [n for (step, n), share in zeros.items() if n in trainable and share < 1]
        why = "although there are gradients" if pulled else "and every gradient is zero or missing"
        yield self.raised(
            moments[-1].step,
            f"the last {STEPS} recorded steps that were made, at a rate of {window[-1]:.3g}, changed no bit of any of "
            f"{len(self._decided)} trainable parameters, where each should, {why}",
        )
