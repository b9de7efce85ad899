"""A layer's units never fire any more; names the layer.

## What it watches
The table `units`: the share of a rectified layer's units that were zero for every item of the last 8 batches read.

## Why it matters
The gradient of a ReLU that never fires is exactly zero, so nothing before it learns through it and it never comes back.

## How it is judged
When the window is full of batches after the first step at a rate above 0: no unit fired at all; or more than 90 % of
the units did not, where fewer than 50 % did not in the first such window of the fit. Of layers that follow each other
the first is named.

## What to do
Lower the rate or warm it up, check the scale of the initialisation and of the inputs; `LeakyReLU` or `GELU` cannot die.

## What it looks like but is not
Sparse layers: with 90 % zeros nearly every unit fires for some item of 8 batches. Layers that work with most units
silent from the start: over 70 % never fire in some layers of OPT-66B (Voita et al. 2023). What starts at zero, until
the first step at a rate above 0.

## Source
Lu et al. 2020, "Dying ReLU and initialization"; Voita et al. 2023, "Neurons in large language models: dead, n-gram,
positional".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import listed, made, rates
from diagnose.gauges import Call, Columns, Moment
from diagnose.gauges.dead_units import WINDOW

DEAD = 0.9  # above Voita's 0.7
ALIVE = 0.5  # what fewer than this was, has died when it is above DEAD


class LayerDied(Alarm):
    """A layer whose units went silent."""

    tables = ("units", "steps")

    def __init__(self):
        self._first: dict[Call, float] = {}
        self._told: set[Call] = set()
        self._moved: int | None = None
        self._read: deque[int] = deque(maxlen=WINDOW)

    def start(self, learn: Any) -> None:
        self.__init__()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        if self._moved is None:
            rate = rates(tables, learn)
            self._moved = next((s for s in made(moments) if max(rate[s], default=0) > 0), None)
        table = tables.get("units")
        if table is None:
            return
        columns = zip(*(table[c] for c in ("step", "layer", "kind", "call", "units", "dead", "batches")))
        runs: list[list[tuple[Call, int, int, float]]] = [[]]
        now = None
        for step, layer, kind, number, units, dead, batches in columns:
            if step != now:
                now = step
                self._read.append(int(step))
                runs.append([])
            call = Call(layer, kind, int(number), 0)
            if batches < WINDOW or self._moved is None or self._read[0] <= self._moved:
                continue
            first = self._first.setdefault(call, float(dead))
            if dead == 1 or (dead > DEAD and first < ALIVE):
                runs[-1].append((call, int(step), int(units), float(dead)))
            elif runs[-1]:
                runs.append([])
        for run in runs:
            fresh = [entry for entry in run if entry[0] not in self._told]
            after_known = len(fresh) < len(run)
            self._told |= {entry[0] for entry in run}
            if fresh and not after_known:
                yield self._of(fresh)

    def _of(self, run: list[tuple[Call, int, int, float]]) -> Raised:
        call, step, units, dead = run[0]
        rest = f"; so did {listed(c.text for c, *_ in run[1:])} after it" if run[1:] else ""
        began = self._first[call]
        before = "from the first such window on" if began > DEAD else f"against {began:.0%} in the fit's first window"
        told = (
            f"{dead:.0%} of the {units} units of {call.text} gave zero for every item of the last {WINDOW} batches read"
        )
        return self.raised(step, f"{told}, {before}{rest}", call.text)
