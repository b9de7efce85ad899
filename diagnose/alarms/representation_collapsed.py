"""The encoder's features have become the same for every item.

## What it watches
`feature_cosine`, `feature_rank` and `feature_rank_share` of the table `steps`, read every tenth recorded step.

## Why it matters
What the encoder does not tell apart no head can. A self-supervised loss may even fall to its best value meanwhile.

## How it is judged
In three readings in a row, each after steps at a rate above 0. Either the features of different items are the same:
equal in every bit, or 1 − cosine below a hundredth of the fit's first reading. The comparison is with the run itself,
since ten layers without norm start with a cosine of 1 − 2e-7 and learn all the same; a first reading below 1e-4 is too
near to the resolution of float32 to compare with. Or one direction is left of many: an effective rank below 1.5 that
has fallen to a tenth of the first reading, while the model's output has four units or more, so needs three directions.

## What to do
A self-supervised loss needs what keeps features apart: negatives, a stop-gradient with a predictor, variance and
covariance terms. Else lower the rate, and look for dead units and for targets that do not depend on the input.

## What it looks like but is not
A classifier at the end of training keeps as many directions as classes less one, a regression one (neural collapse):
both are below the limit only if the output needs no more. A zero-initialised layer before the first step.

## Source
Jing et al. 2022, "Understanding dimensional collapse"; Chen & He 2021 (SimSiam); Papyan, Han & Donoho 2020 (neural
collapse); Garrido et al. 2023 (RankMe).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import made, rates
from diagnose.gauges import Columns, Moment
from diagnose.stats import floats

READINGS = 3
FALLEN = 0.01  # of 1 − cosine at the first reading
APART = 1e-4  # 1 − cosine at the first reading, from which on it can be compared
RANK, RANK_FALLEN = 1.5, 0.1
UNITS = 4


class RepresentationCollapsed(Alarm):
    """Features that are alike for all items, or spread along one direction."""

    tables = ("steps",)
    once = True

    def __init__(self):
        self._moved = False
        self._first: tuple[float, float, float] | None = None
        self._count = {"alike": 0, "line": 0}

    def start(self, learn: Any) -> None:
        self.__init__()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["steps"]
        if "feature_cosine" not in table:
            return
        stepped, rate = set(made(moments)), rates(tables, learn)
        columns = (table[c].tolist() for c in ("step", "feature_cosine", "feature_rank", "feature_rank_share"))
        for step, cosine, rank, share in zip(*columns):
            moved = self._moved
            self._moved = moved or (step in stepped and max(rate[step], default=0) > 0)
            if math.isnan(cosine) or math.isnan(rank):
                continue
            first = self._first = self._first or (1 - cosine, share, rank)
            alike = rank == 0 or 1 - cosine < FALLEN * first[0] >= FALLEN * APART
            line = rank < RANK and share < RANK_FALLEN * first[1]
            for name, now in (("alike", alike), ("line", line)):
                self._count[name] = self._count[name] + 1 if moved and now else 0
            if self._count["alike"] >= READINGS:
                told = f"the features of different items point the same way, 1 − cosine is {max(1 - cosine, 0):.2g}"
                told = "the features of all items are equal, an effective rank of 0" if rank == 0 else told
                was = f"a rank of {first[2]:.3g}" if rank == 0 else f"{first[0]:.2g}"
                yield self.raised(step, f"{told} in {READINGS} readings against {was} in the fit's first")
                return
            if self._count["line"] >= READINGS and _units(learn.pred) >= UNITS:
                told = f"the features vary along one direction only, the share of directions in use is {share:.2g}"
                yield self.raised(step, f"{told} in {READINGS} readings against {first[1]:.2g} in the fit's first")
                return


def _units(outputs: Any) -> int:
    parts = floats(outputs)
    return max((t[0].numel() for t in parts if len(t)), default=0)
