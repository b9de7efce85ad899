"""Most of the time goes to waiting for the next batch.

## What it watches
The seconds of the table `steps`: from the end of a step to the arrival of the next batch, and of the step itself.

## Why it matters
The net could be trained in a fraction of the time; on a rented GPU the rest is paid for nothing.

## How it is judged
Over the last 50 recorded steps the waiting is more than half of all time, and more than 5 ms a step in the mean and in
the median: below that the loop's own work, about 1.3 ms a step in fastai, is what is measured. On CUDA a step's time is
the device's, so that work which the host has queued is no waiting. The first step of an epoch, which waits for workers
to start and for the validation before it, does not count.

## What to do
More workers, pinned memory, smaller or pre-decoded files, transforms on the device: the checks `loader-throughput` and
`worker-draws` of `diagnose run` tell what the loader can give.

## What it looks like but is not
A tiny net on a fast loader spends most of its time in the loop, a millisecond a step. The recording's own time counts
as the step's.

## Source
PyTorch's performance tuning guide; Mohan et al. 2021, "Analyzing and mitigating data stalls in DNN training".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from diagnose.alarms import Alarm, Raised
from diagnose.gauges import Columns, Moment

STEPS = 50
SHARE = 0.5  # of all time
SECONDS = 0.005  # a step
PARTS = ("forward", "loss", "backward", "step")


class WaitingForData(Alarm):
    """A loader that the model waits for."""

    tables = ("steps",)
    once = True

    def __init__(self):
        self._epoch, self._seen = None, deque(maxlen=STEPS)

    def start(self, learn: Any) -> None:
        self.__init__()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["steps"]
        if "seconds_waiting" not in table:
            return
        waiting, batch = table["seconds_waiting"], table["seconds_batch"]
        busy = np.nansum([table[f"seconds_{part}"] for part in PARTS], axis=0)
        for place, moment in enumerate(moments):
            first, self._epoch = (moment.fit, moment.epoch) != self._epoch, (moment.fit, moment.epoch)
            total = waiting[place] + batch[place]
            if not first and np.isfinite(total):
                self._seen.append((min(waiting[place], max(total - busy[place], 0.0)), total))
        if len(self._seen) < STEPS:
            return
        waited, total = np.array(self._seen).T
        share = waited.sum() / total.sum()
        if share > SHARE and min(waited.mean(), np.median(waited)) > SECONDS:
            yield self.raised(
                moments[-1].step,
                f"{share:.0%} of the time of the last {STEPS} recorded steps was spent waiting for data, "
                f"{waited.mean() * 1e3:.3g} ms of {total.mean() * 1e3:.3g} ms a step; up to {SHARE:.0%} is usual",
            )
